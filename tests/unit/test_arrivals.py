"""Global models that arrive at a node in chunks."""

import hashlib
import os
import queue

import pytest

from common.clock import ManualClock
from common.errors import DigestMismatchError, MalformedMessageError
from common.ids import Digest, PartyId
from common.mailbox import Mailbox
from common.messages import Chunk, ChunkRequest, PayloadManifest
from common.payload.store import PayloadStore, chunk_length
from common.security.sealing import Sealer
from common.settings import Timeouts
from common.transport.memory import MemoryBroker
from node.arrivals import Arrivals
from tests.support.parties import ROLES, make_identities, make_roster

LAB, NORTH = PartyId("lab"), PartyId("north")
CHUNK = 1024
LIMIT = 64 * CHUNK
DEADLINE_S = 20


class Node:
    """What a node gathers, and what its researcher is asked for."""

    def __init__(self, folder):
        identities = make_identities(ROLES)
        roster = make_roster(identities, ROLES)
        broker = MemoryBroker(roster.parties())
        self.asked = queue.Queue()
        self.clock = ManualClock()
        self._folder = folder
        self._lab, self._north = (
            Mailbox(broker.transport(party), Sealer(identities[party], roster), roster, ROLES[party])
            for party in (LAB, NORTH)
        )
        self._lab.start(self._take)
        self._north.start(lambda mail: mail.ack())
        self.restart()

    def restart(self):
        self.store = PayloadStore(self._folder)
        self.arrivals = Arrivals(
            self._north, self.store, limit_bytes=LIMIT, clock=self.clock, timeouts=Timeouts(reply_s=5.0)
        )

    def take(self, data, manifest, *indices):
        results = []
        for index in indices:
            chunk = Chunk(sender=LAB, recipients=(NORTH,), manifest=manifest, index=index)
            piece = data[index * CHUNK : index * CHUNK + chunk_length(manifest, index)]
            results.append(self.arrivals.accept(chunk, memoryview(piece)))
        return results

    def tick(self, seconds):
        self.clock.advance(seconds)
        self.arrivals.tick()

    def close(self):
        self._lab.close()
        self._north.close()

    def _take(self, mail):
        mail.ack()
        if isinstance(mail.message, ChunkRequest):
            self.asked.put(mail.message.indices)


@pytest.fixture
def node(tmp_path):
    one = Node(tmp_path / "payloads")
    yield one
    one.close()


def model(chunks):
    data = os.urandom(chunks * CHUNK)
    digest = Digest(hashlib.sha256(data).hexdigest())
    return data, PayloadManifest(sha256=digest, size_bytes=len(data), chunk_bytes=CHUNK, inline=False)


def test_after_a_restart_only_the_chunks_that_are_missing_are_asked_for(node):
    data, manifest = model(10)
    node.arrivals.expect(manifest, LAB)
    node.take(data, manifest, *range(7))
    node.restart()
    node.arrivals.expect(manifest, LAB)

    node.tick(11.0)

    assert (7, 8, 9) == node.asked.get(timeout=DEADLINE_S)
    assert [False, False, True] == node.take(data, manifest, 7, 8, 9)
    assert data == node.store.path(manifest.sha256).read_bytes()


def test_nothing_is_asked_for_while_chunks_come(node):
    data, manifest = model(4)
    node.arrivals.expect(manifest, LAB)
    for index in range(3):
        node.tick(9.0)
        node.take(data, manifest, index)

    node.tick(9.0)
    assert node.asked.empty()
    node.tick(2.0)
    assert (3,) == node.asked.get(timeout=DEADLINE_S)


def test_models_that_no_request_announces_are_bounded(node):
    one, first = model(60)
    two, second = model(60)
    node.take(one, first, 0)

    node.take(two, second, 0)

    assert 60 == len(node.store.missing(second))
    node.arrivals.expect(second, LAB)
    node.take(two, second, 0)
    assert 59 == len(node.store.missing(second))


def test_a_transfer_without_a_chunk_for_a_week_is_forgotten(node, tmp_path):
    data, manifest = model(4)
    node.take(data, manifest, 0)
    node.tick(0.0)
    for path in (tmp_path / "payloads").iterdir():
        os.utime(path, (1.0, 1.0))

    node.tick(node.arrivals.due() - node.clock.monotonic())

    assert [] == list((tmp_path / "payloads").iterdir())


def test_a_damaged_model_is_asked_for_anew_and_given_up_after_three_times(node, tmp_path):
    _, manifest = model(2)
    other, _ = model(2)
    node.arrivals.expect(manifest, LAB)
    for _ in range(2):
        assert [False, False] == node.take(other, manifest, 0, 1)
        node.tick(11.0)
        assert (0, 1) == node.asked.get(timeout=DEADLINE_S)

    with pytest.raises(DigestMismatchError):
        node.take(other, manifest, 0, 1)

    node.tick(1000.0)
    assert node.asked.empty()
    assert [] == list((tmp_path / "payloads").iterdir())


def test_one_damaged_chunk_costs_one_more_transfer(node):
    data, manifest = model(3)
    node.arrivals.expect(manifest, LAB)
    node.take(data, manifest, 2, 0)
    node.take(data[::-1], manifest, 1)

    assert [False, False, True] == node.take(data, manifest, 1, 2, 0)


@pytest.mark.parametrize("change", [-1, 1], ids=["truncated", "oversized"])
def test_a_chunk_of_another_length_is_refused_and_still_missing(node, change):
    data, manifest = model(3)
    node.arrivals.expect(manifest, LAB)
    chunk = Chunk(sender=LAB, recipients=(NORTH,), manifest=manifest, index=1)

    with pytest.raises(MalformedMessageError):
        node.arrivals.accept(chunk, memoryview(data)[: CHUNK + change])

    assert (0, 1, 2) == node.store.missing(manifest)
