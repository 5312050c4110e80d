"""Whoever operates the broker can copy, move and forge messages, and none of that is believed."""

import hashlib
import os
import queue
from contextlib import suppress

import pytest

from common.ids import REGISTRAR, Digest, PartyId
from common.mailbox import Mailbox
from common.messages import Chunk, NodeInfo, NodePresence, PayloadManifest, PingRequest, RosterUpdate, encode
from common.security.identity import Identity
from common.security.sealing import Sealer
from common.transport.topology import Lane
from deploy.membership import announce
from tests.support.intruder import Intruder, eventually

ALICE, BOB, NORTH, SOUTH = map(PartyId, ("alice", "bob", "north", "south"))
DEADLINE_S = 30
DATA = os.urandom(5000)
MANIFEST = PayloadManifest(
    sha256=Digest(hashlib.sha256(DATA).hexdigest()), size_bytes=len(DATA), inline=False
)
INFO = NodeInfo(
    version="1", python="3", started_at=1, max_workers=1, running=0, waiting=0, datasets=1, plan_approval=True
)


class Desk:
    """A party, and what it believed."""

    def __init__(self, running, party):
        self.mails = queue.SimpleQueue()
        self.rosters = queue.SimpleQueue()
        self.mailbox = Mailbox.of_kit(running.kit(party), running.transport(party))
        self.mailbox.start(self.mails.put, on_roster=self.rosters.put)

    def take(self):
        mail = self.mails.get(timeout=DEADLINE_S)
        mail.ack()
        return mail.message


@pytest.fixture
def scene(make_federation):
    """A federation of two researchers and two nodes, and its operator, who has copied a message of each lane."""
    running = make_federation(researchers=("alice", "bob"), nodes=("north", "south"))
    scene = type("Scene", (), {})()
    scene.running, scene.intruder = running, Intruder(running.admin, running.vhost)
    scene.intruder.spy()
    scene.desks = {party: Desk(running, party) for party in (ALICE, BOB, NORTH, SOUTH)}
    alice, north = scene.desks[ALICE], scene.desks[NORTH]
    scene.ping = PingRequest(sender=ALICE, recipients=(NORTH,))
    alice.mailbox.send(scene.ping).result(DEADLINE_S)
    chunk = Chunk(sender=ALICE, recipients=(NORTH,), manifest=MANIFEST, index=0)
    alice.mailbox.send(chunk, DATA).result(DEADLINE_S)
    assert {"ping_request", "chunk"} == {north.take().kind, north.take().kind}
    north.mailbox.send(NodePresence(sender=NORTH, recipients=(ALICE,), info=INFO)).result(DEADLINE_S)
    alice.take()
    eventually(lambda: len(scene.intruder.copies()) == 3)
    bodies = {copy.routing_keys[0].rpartition(".")[2]: copy.body for copy in scene.intruder.copies()}
    scene.control, scene.bulk, scene.telemetry = bodies["control"], bodies["bulk"], bodies["telemetry"]
    yield scene
    for desk in scene.desks.values():
        desk.mailbox.close()
    scene.intruder.close()


def inbox(recipient, sender, lane):
    return f"inbox.{recipient}.{sender}.{lane}"


def assert_not_believed(scene, written, recipient=NORTH, sender=ALICE):
    """Everything that was written has left its queue, nobody was given it, and the true sender is still heard."""
    for name in written:
        eventually(lambda name=name: scene.running.depth(name) == 0)
    desk = scene.desks[recipient]
    genuine = PingRequest(sender=sender, recipients=(recipient,))
    if sender in (ALICE, BOB):
        scene.desks[sender].mailbox.send(genuine).result(DEADLINE_S)
        assert genuine == desk.take()
    with suppress(queue.Empty):
        assert desk.mails.get(timeout=0.2) is None, "believed"


def test_a_message_in_the_queue_of_another_party_is_not_believed(scene):
    name = inbox(SOUTH, ALICE, "control")
    scene.intruder.write(name, scene.control, user=ALICE)

    assert_not_believed(scene, [name], recipient=SOUTH)


def test_a_message_on_another_lane_is_not_believed(scene):
    names = [inbox(NORTH, ALICE, lane) for lane in ("bulk", "control")]
    scene.intruder.write(names[0], scene.control, user=ALICE)
    scene.intruder.write(names[1], scene.bulk, user=ALICE)

    assert_not_believed(scene, names)


def test_a_message_that_comes_back_to_its_sender_is_not_believed(scene):
    names = [inbox(ALICE, NORTH, lane) for lane in ("control", "telemetry")]
    for name in names:
        scene.intruder.write(name, scene.control, user=NORTH)
        scene.intruder.write(name, scene.control, user=ALICE)

    assert_not_believed(scene, names, recipient=ALICE, sender=NORTH)


def test_a_message_in_the_queue_of_another_sender_is_not_believed(scene):
    name = inbox(NORTH, BOB, "control")
    scene.intruder.write(name, scene.control, user=BOB)
    scene.intruder.write(name, scene.control, user=ALICE)

    assert_not_believed(scene, [name], sender=BOB)


def test_a_message_that_the_operator_wrote_is_not_believed_whatever_name_it_bears(scene):
    name, federation = inbox(NORTH, ALICE, "control"), scene.running.federation
    forged = encode(PingRequest(sender=ALICE, recipients=(NORTH,)))
    sealed_by_stranger = Sealer(Identity.generate(ALICE), federation.roster).seal(
        Lane.CONTROL, [NORTH], forged
    )
    flipped = bytearray(scene.control)
    flipped[-1] ^= 1
    for body in (
        b"",
        b"WRS1",
        forged,
        sealed_by_stranger,
        bytes(flipped),
        scene.control[:-1],
        scene.control + b"x",
    ):
        scene.intruder.write(name, body, user=ALICE)
    scene.intruder.write(name, scene.control, user=None)

    assert_not_believed(scene, [name])
    assert len(scene.running.dead()) >= 8


def test_a_party_that_was_let_in_cannot_pass_on_the_message_of_another_as_its_own(scene):
    """Bob has north's ear, but what alice wrote cannot be opened by him, and not be signed anew."""
    name = inbox(NORTH, BOB, "control")
    kit = scene.running.kit(BOB)
    signature = kit.identity.signing.sign(scene.control[68:])
    scene.intruder.write(name, scene.control[:4] + signature + scene.control[68:], user=BOB)

    assert_not_believed(scene, [name], sender=BOB)


def test_a_message_in_its_own_queue_again_is_the_same_message_again(scene):
    """A replay is a redelivery: the same message id, so that whoever acts on it sees that it did."""
    scene.intruder.write(inbox(NORTH, ALICE, "control"), scene.control, user=ALICE)

    assert scene.ping == scene.desks[NORTH].take()


def test_an_old_roster_is_not_believed_again(scene):
    running, north = scene.running, scene.desks[NORTH]
    announce(running.federation)
    north.rosters.get(timeout=DEADLINE_S)
    old = next(copy for copy in reversed(scene.intruder.copies()) if copy.exchange == f"out.{REGISTRAR}")
    running.add("east", "node")
    newest = north.rosters.get(timeout=DEADLINE_S)

    name = inbox(NORTH, REGISTRAR, "control")
    scene.intruder.write(name, old.body, user=REGISTRAR)

    eventually(lambda: running.depth(name) == 0)
    assert_not_believed(scene, [name])
    assert newest == north.mailbox.roster
    assert north.rosters.empty()


def test_the_operator_cannot_write_a_roster_of_its_own(scene):
    running, north = scene.running, scene.desks[NORTH]
    before = north.mailbox.roster
    signed = running.federation.signed_roster
    update = RosterUpdate(
        sender=REGISTRAR,
        recipients=(NORTH,),
        document=signed.document.replace("alice", "mallo"),
        signature=signed.signature,
    )
    name = inbox(NORTH, REGISTRAR, "control")
    scene.intruder.write(name, encode(update), user=REGISTRAR)

    assert_not_believed(scene, [name])
    assert before == north.mailbox.roster
