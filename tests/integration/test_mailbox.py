"""Typed messages between parties: sealed, on the right lane, of any size."""

import hashlib
import os
import queue

import pytest

from common.ids import Digest, PartyId
from common.mailbox import Mailbox
from common.messages import Chunk, ChunkRequest, PayloadManifest, PingRequest, RosterUpdate, encode
from common.payload.store import PayloadStore
from common.security.identity import Identity
from common.security.roster import sign_roster, verify_roster
from common.security.sealing import Sealer
from common.transport.memory import MemoryBroker
from common.transport.topology import Lane
from tests.support.certificates import make_authority
from tests.support.parties import ROLES, make_identities, make_roster

LAB, NORTH, SOUTH = PartyId("lab"), PartyId("north"), PartyId("south")
DEADLINE_S = 20


class Desk:
    """One party with its mailbox and what it received."""

    def __init__(self, broker, party, role, sealer, roster, **options):
        self.mails = queue.Queue()
        self.rosters = queue.Queue()
        self.mailbox = Mailbox(broker.transport(party), sealer, roster, role, **options)
        self.mailbox.start(self.mails.put, on_roster=self.rosters.put)

    def take(self):
        mail = self.mails.get(timeout=DEADLINE_S)
        mail.ack()
        return mail


@pytest.fixture
def federation():
    roles = ROLES | {"registrar": "registrar"}
    identities = make_identities(roles)
    roster = make_roster(identities, roles)
    broker = MemoryBroker(roster.parties())
    desks = []

    def desk(party, **options):
        sealer = Sealer(identities[party], roster)
        desks.append(Desk(broker, PartyId(party), roles[party], sealer, roster, **options))
        return desks[-1]

    desk.broker, desk.identities, desk.roster, desk.roles = broker, identities, roster, roles
    yield desk
    for one in desks:
        one.mailbox.close()


def ping(*recipients):
    return PingRequest(sender=LAB, recipients=recipients)


def test_a_message_reaches_all_its_recipients(federation):
    lab, north, south = federation("lab"), federation("north"), federation("south")
    message = ping(NORTH, SOUTH)

    lab.mailbox.send(message, b"tensors").result(DEADLINE_S)

    for desk in (north, south):
        mail = desk.take()
        assert message == mail.message
        assert b"tensors" == bytes(mail.payload)


def test_a_message_in_the_name_of_another_is_refused(federation):
    north, lab = federation("north"), federation("lab")
    forged = PingRequest(sender=SOUTH, recipients=(NORTH,))

    lab.mailbox.send(forged).result(DEADLINE_S)
    lab.mailbox.send(genuine := ping(NORTH)).result(DEADLINE_S)

    assert genuine == north.take().message


@pytest.mark.parametrize("lane", [Lane.BULK, Lane.CONTROL])
def test_chunks_alone_come_on_the_bulk_lane_and_on_no_other(federation, lane):
    north, lab = federation("north"), federation("lab")
    manifest = PayloadManifest(sha256=Digest("a" * 64), size_bytes=8, chunk_bytes=4096, inline=False)
    chunk = Chunk(sender=LAB, recipients=(NORTH,), manifest=manifest, index=0)
    astray = encode(ping(NORTH)) if lane is Lane.BULK else encode(chunk, bytes(8))

    sealed = Sealer(federation.identities["lab"], federation.roster).seal(lane, [NORTH], astray)
    lab.mailbox._transport.publish(lane, [NORTH], sealed).result(DEADLINE_S)
    lab.mailbox.send(genuine := ping(NORTH)).result(DEADLINE_S)

    assert genuine == north.take().message
    assert 1 == len(federation.broker.dead)


def test_a_body_that_is_not_sealed_is_refused(federation):
    north = federation("north")
    transport = federation.broker.transport(LAB)
    transport.start(lambda delivery: delivery.ack(), ())
    try:
        transport.publish(Lane.CONTROL, [NORTH], encode(ping(NORTH))).result(DEADLINE_S)
        with pytest.raises(queue.Empty):
            north.mails.get(timeout=0.2)
    finally:
        transport.close()


def test_a_payload_of_many_chunks_arrives_whole_and_only_what_is_missing_is_sent_again(federation, tmp_path):
    lab, north = federation("lab"), federation("north")
    data = os.urandom(40 * 4096 + 17)
    path = tmp_path / "model"
    path.write_bytes(data)
    digest = Digest(hashlib.sha256(data).hexdigest())
    manifest = PayloadManifest(sha256=digest, size_bytes=len(data), chunk_bytes=4096, inline=False)
    store = PayloadStore(tmp_path / "payloads")

    lab.mailbox.send_payload(path, manifest, [NORTH], indices=range(0, manifest.chunks, 2)).result(DEADLINE_S)
    for _ in range(0, manifest.chunks, 2):
        mail = north.take()
        assert isinstance(mail.message, Chunk)
        assert not store.accept(mail.message, mail.payload)
    request = ChunkRequest(sender=NORTH, recipients=(LAB,), sha256=digest, indices=store.missing(manifest))
    north.mailbox.send(request).result(DEADLINE_S)
    lab.mailbox.send_payload(path, manifest, [NORTH], lab.take().message.indices).result(DEADLINE_S)
    arrived = [store.accept(mail.message, mail.payload) for mail in (north.take() for _ in request.indices)]

    assert arrived[-1]
    assert data == store.path(digest).read_bytes()


def test_a_roster_that_the_authority_signed_is_applied_and_another_is_not(federation):
    authority, stranger = make_authority(), make_authority()

    def renew(update: RosterUpdate, previous):
        return verify_roster(update.document, update.signature, authority.certificate, previous=previous)

    north, registrar = federation("north", renew=renew), federation("registrar")
    newer = make_roster(federation.identities, federation.roles, serial=2, revoked=("lab",))
    for key in (stranger.key, authority.key):
        signed = sign_roster(newer, key)
        update = RosterUpdate(
            sender=PartyId("registrar"),
            recipients=(NORTH,),
            document=signed.document,
            signature=signed.signature,
        )
        registrar.mailbox.send(update).result(DEADLINE_S)

    assert newer == north.rosters.get(timeout=DEADLINE_S)
    assert newer == north.mailbox.roster


def test_what_comes_for_keys_that_took_the_place_of_a_partys_own_waits_for_them(federation):
    authority = make_authority()

    def renew(update, previous):
        return verify_roster(update.document, update.signature, authority.certificate, previous=previous)

    north, registrar, lab = federation("north", renew=renew), federation("registrar"), federation("lab")
    replaced = Identity.generate(NORTH)
    newer = make_roster(federation.identities | {"north": replaced}, federation.roles, serial=2)
    signed = sign_roster(newer, authority.key)
    registrar.mailbox.send(
        RosterUpdate(
            sender=PartyId("registrar"),
            recipients=(NORTH,),
            document=signed.document,
            signature=signed.signature,
        )
    ).result(DEADLINE_S)
    north.rosters.get(timeout=DEADLINE_S)
    sealed = Sealer(federation.identities["lab"], newer).seal(
        Lane.CONTROL, [NORTH], encode(late := ping(NORTH))
    )
    lab.mailbox._transport.publish(Lane.CONTROL, [NORTH], sealed).result(DEADLINE_S)
    with pytest.raises(queue.Empty):
        north.mails.get(timeout=0.2)
    north.mailbox.close()

    again = Desk(federation.broker, NORTH, "node", Sealer(replaced, newer), newer)

    assert late == again.take().message
    again.mailbox.close()


def test_a_revoked_sender_is_not_heard_any_more(federation):
    authority = make_authority()
    north = federation(
        "north",
        renew=lambda update, previous: verify_roster(
            update.document, update.signature, authority.certificate, previous=previous
        ),
    )
    lab, registrar = federation("lab"), federation("registrar")
    signed = sign_roster(
        make_roster(federation.identities, federation.roles, serial=2, revoked=("lab",)), authority.key
    )
    registrar.mailbox.send(
        RosterUpdate(
            sender=PartyId("registrar"),
            recipients=(NORTH,),
            document=signed.document,
            signature=signed.signature,
        )
    ).result(DEADLINE_S)
    north.rosters.get(timeout=DEADLINE_S)

    lab.mailbox.send(ping(NORTH)).result(DEADLINE_S)

    with pytest.raises(queue.Empty):
        north.mails.get(timeout=0.2)
