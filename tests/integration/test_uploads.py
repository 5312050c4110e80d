"""Payloads on their way: what a crash, a cut line or a full queue makes of them."""

import hashlib
import os
import queue
import threading

import pytest

from common.errors import TransportClosedError
from common.ids import Digest, PartyId
from common.limits import BULK_PREFETCH, SEND_WINDOW_CHUNKS
from common.mailbox import Mailbox
from common.messages import Chunk, PayloadManifest, TaskProgress, TrainReply
from common.payload.sent import SentChunks
from common.payload.store import PayloadStore
from common.payload.tensors import load_tensors
from common.security.sealing import Sealer
from common.settings import Timeouts
from common.transport.memory import MemoryBroker, QueueLimits
from tests.support.parties import ROLES, make_identities, make_roster
from tests.support.quick_workers import quick_workers  # noqa: F401 - a fixture
from tests.support.trial import Trial

LAB, NORTH, SOUTH = PartyId("lab"), PartyId("north"), PartyId("south")
DEADLINE_S = 20
CHUNK = 4096
SOON = Timeouts(reconnect_first_s=0.05, reconnect_max_s=0.1)


class Line:
    """Parties of one federation over an in-memory broker, each made anew as often as wanted."""

    def __init__(self, limits=None):
        self.identities = make_identities(ROLES)
        self.roster = make_roster(self.identities, ROLES)
        self.broker = MemoryBroker(self.roster.parties(), limits=limits)
        self.mailboxes = []

    def join(self, party, receive=lambda mail: mail.ack()):
        sealer = Sealer(self.identities[party], self.roster)
        mailbox = Mailbox(self.broker.transport(party), sealer, self.roster, ROLES[party], timeouts=SOON)
        mailbox.start(receive)
        self.mailboxes.append(mailbox)
        return mailbox

    def close(self):
        for mailbox in self.mailboxes:
            mailbox.close()


@pytest.fixture
def line():
    one = Line()
    yield one
    one.close()


class Collected:
    """What a party got: the index of each chunk, in order; `at` is set with the chunk of that number."""

    def __init__(self, store, at=10**9):
        self.indices = []
        self.whole = threading.Event()
        self.reached = threading.Event()
        self._store, self._at = store, at

    def receive(self, mail):
        if isinstance(mail.message, Chunk):
            self.indices.append(mail.message.index)
            whole = self._store.accept(mail.message, mail.payload)
            if len(self.indices) == self._at:
                self.reached.set()
            if whole:
                self.whole.set()
        mail.ack()


def payload(tmp_path, chunks=60):
    data = os.urandom(chunks * CHUNK - 17)
    path = tmp_path / hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    digest = Digest(path.name)
    return path, PayloadManifest(sha256=digest, size_bytes=len(data), chunk_bytes=CHUNK, inline=False)


def test_after_a_crash_only_what_the_broker_has_not_confirmed_is_sent_again(line, tmp_path):
    path, manifest = payload(tmp_path)
    store = PayloadStore(tmp_path / "store")
    at_lab = Collected(store, at=20)
    line.broker.pause(NORTH, after=20)
    line.join(LAB, at_lab.receive)
    first = line.join(NORTH)
    sending = first.send_payload(path, manifest, [LAB], resume=True)
    assert at_lab.reached.wait(DEADLINE_S)
    first.close()  # what it knows dies with it, save for what is on disk
    assert isinstance(sending.exception(DEADLINE_S), TransportClosedError)
    with SentChunks(path, manifest, [LAB]) as sent:
        left = list(sent.left())
    line.broker.resume(NORTH)

    line.join(NORTH).send_payload(path, manifest, [LAB], resume=True).result(DEADLINE_S)

    assert at_lab.whole.wait(DEADLINE_S)
    assert 0 < len(left) < manifest.chunks - 10
    assert manifest.chunks <= len(at_lab.indices) <= manifest.chunks + SEND_WINDOW_CHUNKS
    assert left == at_lab.indices[-len(left) :]


def test_chunks_that_came_before_a_restart_are_kept_and_duplicates_change_nothing(line, tmp_path):
    path, manifest = payload(tmp_path, chunks=12)
    first = Collected(PayloadStore(tmp_path / "store"), at=5)
    reader = line.join(LAB, first.receive)
    sender = line.join(NORTH)
    sender.send_payload(path, manifest, [LAB], indices=range(5)).result(DEADLINE_S)
    assert first.reached.wait(DEADLINE_S)
    reader.close()
    store = PayloadStore(tmp_path / "store")
    second = Collected(store)
    line.join(LAB, second.receive)

    missing = store.missing(manifest)
    sender.send_payload(path, manifest, [LAB], indices=(4, *missing, 7)).result(DEADLINE_S)

    assert tuple(range(5, 12)) == missing
    assert second.whole.wait(DEADLINE_S)
    assert path.read_bytes() == store.path(manifest.sha256).read_bytes()


def test_what_was_sent_to_one_party_does_not_count_for_another(tmp_path):
    path, manifest = payload(tmp_path, chunks=3)
    with SentChunks(path, manifest, [LAB]) as sent:
        sent.add(1)

    with SentChunks(path, manifest, [LAB]) as sent:
        assert [0, 2] == list(sent.left())
    with SentChunks(path, manifest, [PartyId("other")]) as sent:
        assert [0, 1, 2] == list(sent.left())


def test_a_node_with_a_full_queue_does_not_stop_the_others(tmp_path):
    line = Line(QueueLimits(bulk_bytes=30 * (CHUNK + 1024)))
    earlier, manifest = payload(tmp_path, chunks=29)
    later, other = payload(tmp_path, chunks=20)
    at_north = Collected(PayloadStore(tmp_path / "store"))
    line.join(NORTH, at_north.receive)
    try:
        lab = line.join(LAB)
        lab.send_payload(earlier, manifest, [SOUTH]).result(DEADLINE_S)  # which reads nothing

        lab.send_payload(later, other, [NORTH, SOUTH]).result(DEADLINE_S)

        assert at_north.whole.wait(DEADLINE_S)
    finally:
        line.close()


def test_a_single_recipient_with_a_full_queue_is_waited_for(tmp_path):
    line = Line(QueueLimits(bulk_bytes=6 * CHUNK))
    path, manifest = payload(tmp_path, chunks=20)
    try:
        sending = line.join(NORTH).send_payload(path, manifest, [LAB])
        with pytest.raises(TimeoutError):
            sending.result(0.3)
        at_lab = Collected(PayloadStore(tmp_path / "store"))
        line.join(LAB, at_lab.receive)

        sending.result(DEADLINE_S)
        assert at_lab.whole.wait(DEADLINE_S)
    finally:
        line.close()


def test_a_payload_on_its_way_is_known_as_such(line, tmp_path):
    path, manifest = payload(tmp_path, chunks=20)
    line.broker.disconnect(NORTH)
    north = line.join(NORTH)
    sending = north.send_payload(path, manifest, [LAB])

    assert north.sends(manifest.sha256, LAB)
    assert not north.sends(manifest.sha256, SOUTH)

    line.broker.reconnect(NORTH)
    sending.result(DEADLINE_S)
    assert not north.sends(manifest.sha256, LAB)


def test_a_large_body_comes_out_of_a_queue_as_it_went_in(line):
    mails = queue.Queue()
    line.join(LAB, mails.put)
    north = line.join(NORTH)
    data = os.urandom(1024 * 1024)
    digest = Digest(hashlib.sha256(data).hexdigest())
    chunk = Chunk(
        sender=NORTH,
        recipients=(LAB,),
        index=0,
        manifest=PayloadManifest(sha256=digest, size_bytes=len(data), inline=False),
    )

    north.send(chunk, data).result(DEADLINE_S)

    assert data == mails.get(timeout=DEADLINE_S).payload


@pytest.mark.usefixtures("quick_workers")
def test_a_restarted_node_goes_on_with_its_upload_where_it_stopped(tmp_path):
    limits = QueueLimits(bulk_bytes=4 * 1024 * 1024)  # the update does not fit until the researcher reads it
    trial = Trial(tmp_path, timeouts=SOON, limits=limits)
    try:
        request = trial.request(features=11 * 256 * 1024)
        trial.send(request)
        first = trial.lab.mails.get(timeout=60)
        while not isinstance(first.message, Chunk):
            first.ack()
            first = trial.lab.mails.get(timeout=60)
        manifest = first.message.manifest
        sent = trial.home.payloads / f"{manifest.sha256}.sent"
        held = 3 + BULK_PREFETCH  # what surely fits into the queue and into the hands of the researcher
        while sum(sent.read_bytes()[32:]) < held:
            threading.Event().wait(0.01)
        trial.restart()

        store = PayloadStore(tmp_path / "arrived")
        indices = [first.message.index]
        whole = store.accept(first.message, first.payload)
        first.ack()
        while not whole:
            mail = trial.lab.take((Chunk, TaskProgress, TrainReply))
            if isinstance(mail.message, Chunk):
                indices.append(mail.message.index)
                whole = store.accept(mail.message, mail.payload)

        assert sorted(indices) == list(range(manifest.chunks))
        assert {1.0} == set(load_tensors(store.path(manifest.sha256))["weight"].flatten().tolist())
    finally:
        trial.close()
