"""What every transport promises, whoever carries the bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from common.errors import MessageTooLargeError, QueueFullError, TransportClosedError, UnroutableError
from common.ids import PartyId
from common.limits import BULK_PREFETCH, MESSAGE_BYTES
from common.settings import Role
from common.transport.base import Transport
from common.transport.memory import MemoryBroker, QueueLimits
from common.transport.topology import Inbox, Lane, inboxes
from tests.support.inbox import DEADLINE_S, Collector, settled

R, A, B = PartyId("lab"), PartyId("alpha"), PartyId("beta")
PARTIES: list[tuple[PartyId, Role]] = [(R, "researcher"), (A, "node"), (B, "node")]
LIMITS = QueueLimits(control_bytes=4 * 1024**2, bulk_bytes=8 * 1024**2, telemetry_messages=50)


class World(Protocol):
    """A federation of one researcher and two nodes over one kind of transport."""

    def transport(self, party: PartyId) -> Transport: ...
    def add(self, party: PartyId, role: Role) -> None: ...
    def remove(self, party: PartyId) -> None: ...
    def disconnect(self, party: PartyId) -> None: ...
    def reconnect(self, party: PartyId) -> None: ...
    def dead(self) -> list[bytes]: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._broker = MemoryBroker(PARTIES, limits=LIMITS)
        self.transport = self._broker.transport
        self.add = self._broker.add
        self.remove = self._broker.remove
        self.disconnect = self._broker.disconnect
        self.reconnect = self._broker.reconnect

    def dead(self) -> list[bytes]:
        return self._broker.dead


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest) -> World:
    return MemoryWorld() if request.param == "memory" else request.getfixturevalue("amqp_world")


def until_dead(world: World, *bodies: bytes) -> None:
    """Wait until these were set aside: a broker moves them in its own time."""
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while list(bodies) != (found := world.dead()) and time.monotonic() < deadline:
        pause.wait(0.02)
    assert list(bodies) == found


Join = Callable[..., tuple[Transport, Collector]]


@pytest.fixture
def join(world: World) -> Iterator[Join]:
    """Start a transport of a party that reads all its queues, or those given."""
    opened: list[Transport] = []

    def join(
        party: PartyId, *, ack: bool = True, reads: list[Inbox] | None = None
    ) -> tuple[Transport, Collector]:
        transport, collector = world.transport(party), Collector(ack=ack)
        opened.append(transport)
        role = dict(PARTIES)[party]
        wanted = list(inboxes(party, role, PARTIES)) if reads is None else reads
        transport.start(collector.receive, wanted, collector.listen)
        return transport, collector

    yield join
    for transport in opened:
        transport.close()


def test_a_body_reaches_the_recipient_with_its_proven_sender(join: Join) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A)
    settled(lab.publish(Lane.CONTROL, [A], b"hello"))
    at_alpha.until_bodies(b"hello")
    delivery = at_alpha.deliveries[0]
    assert (R, Lane.CONTROL, False) == (delivery.sender, delivery.lane, delivery.redelivered)


def test_a_broadcast_reaches_every_recipient_and_nobody_else(join: Join) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A)
    _, at_beta = join(B)
    settled(lab.publish(Lane.BULK, [A, B], b"model"), lab.publish(Lane.CONTROL, [B], b"only beta"))
    at_beta.until(lambda: len(at_beta.deliveries) == 2)
    assert {b"model", b"only beta"} == set(at_beta.bodies)
    at_alpha.until_bodies(b"model")


def test_bodies_of_one_sender_keep_their_order(join: Join) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A)
    bodies = [str(index).encode() for index in range(300)]
    settled(*[lab.publish(Lane.CONTROL, [A], body) for body in bodies])
    at_alpha.until_bodies(*bodies)


def test_a_message_waits_for_a_recipient_that_comes_later(join: Join) -> None:
    lab, _ = join(R)
    settled(lab.publish(Lane.CONTROL, [A], b"early"))
    _, at_alpha = join(A)
    at_alpha.until_bodies(b"early")


def test_what_is_published_before_the_start_is_sent_after_it(world: World, join: Join) -> None:
    lab = world.transport(R)
    future = lab.publish(Lane.CONTROL, [A], b"eager")
    assert not future.done()
    lab.start(Collector().receive, [])
    settled(future)
    lab.close()
    _, at_alpha = join(A)
    at_alpha.until_bodies(b"eager")


def test_what_is_not_acknowledged_is_delivered_again_to_the_next_reader(join: Join) -> None:
    lab, _ = join(R)
    alpha, first = join(A, ack=False)
    settled(lab.publish(Lane.CONTROL, [A], b"one"), lab.publish(Lane.CONTROL, [A], b"two"))
    first.until_bodies(b"one", b"two")
    alpha.close()
    _, second = join(A)
    second.until_bodies(b"one", b"two")
    assert [True, True] == [delivery.redelivered for delivery in second.deliveries]


def test_what_is_acknowledged_is_not_delivered_again(join: Join) -> None:
    lab, _ = join(R)
    alpha, first = join(A)
    settled(lab.publish(Lane.CONTROL, [A], b"one"))
    first.until_bodies(b"one")
    alpha.close()
    _, second = join(A)
    settled(lab.publish(Lane.CONTROL, [A], b"two"))
    second.until_bodies(b"two")


def test_after_a_lost_connection_unacknowledged_messages_come_again_and_old_acks_do_no_harm(
    world: World, join: Join
) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A, ack=False)
    settled(lab.publish(Lane.CONTROL, [A], b"one"))
    at_alpha.until_bodies(b"one")
    world.disconnect(A)
    at_alpha.until_disconnected()
    at_alpha.deliveries[0].ack()
    world.reconnect(A)
    at_alpha.until_bodies(b"one", b"one")
    assert at_alpha.deliveries[1].redelivered
    at_alpha.deliveries[0].ack()
    at_alpha.deliveries[0].reject()
    at_alpha.deliveries[1].ack()
    settled(lab.publish(Lane.CONTROL, [A], b"two"))
    at_alpha.until_bodies(b"one", b"one", b"two")


def test_what_is_published_without_a_connection_is_sent_in_order_after_reconnecting(
    world: World, join: Join
) -> None:
    lab, at_lab = join(R)
    _, at_alpha = join(A)
    at_lab.until_connected()
    world.disconnect(R)
    at_lab.until_disconnected()
    bodies = [str(index).encode() for index in range(20)]
    futures = [lab.publish(Lane.CONTROL, [A], body) for body in bodies]
    assert not any(future.done() for future in futures)
    world.reconnect(R)
    settled(*futures)
    at_alpha.until_bodies(*bodies)


def test_no_more_than_the_prefetch_is_delivered_before_an_ack(join: Join) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A, ack=False)
    settled(*[lab.publish(Lane.BULK, [A], b"chunk") for _ in range(BULK_PREFETCH + 2)])
    settled(lab.publish(Lane.CONTROL, [A], b"another lane"))
    at_alpha.until(lambda: len(at_alpha.deliveries) == BULK_PREFETCH + 1)
    chunks = [delivery for delivery in at_alpha.deliveries if delivery.lane is Lane.BULK]
    chunks[0].ack()
    at_alpha.until(lambda: len(at_alpha.deliveries) == BULK_PREFETCH + 2)
    chunks[1].ack()
    at_alpha.until(lambda: len(at_alpha.deliveries) == BULK_PREFETCH + 3)


def test_a_rejected_message_is_set_aside_and_not_delivered_again(world: World, join: Join) -> None:
    lab, _ = join(R)
    alpha, first = join(A, ack=False)
    settled(lab.publish(Lane.CONTROL, [A], b"garbage"))
    first.until_bodies(b"garbage")
    first.deliveries[0].reject()
    alpha.close()
    _, second = join(A)
    settled(lab.publish(Lane.CONTROL, [A], b"fine"))
    second.until_bodies(b"fine")
    until_dead(world, b"garbage")


def test_publishing_to_nobody_known_fails(join: Join) -> None:
    lab, _ = join(R)
    with pytest.raises(UnroutableError):
        settled(lab.publish(Lane.CONTROL, [PartyId("nobody")], b"?"))


def test_a_recipient_that_does_not_exist_does_not_keep_the_others_from_receiving(join: Join) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A)
    settled(lab.publish(Lane.CONTROL, [PartyId("nobody"), A], b"hello"))
    at_alpha.until_bodies(b"hello")


@pytest.mark.parametrize(
    ("sender", "lane", "recipient"), [(A, Lane.CONTROL, B), (R, Lane.TELEMETRY, A), (A, Lane.CONTROL, A)]
)
def test_parties_that_may_not_talk_have_no_queue(
    join: Join, sender: PartyId, lane: Lane, recipient: PartyId
) -> None:
    transport, at_sender = join(sender)
    at_sender.until_connected()
    future = transport.publish(lane, [recipient], b"psst")
    if lane is not Lane.TELEMETRY:
        with pytest.raises(UnroutableError):
            settled(future)
    settled(transport.publish(Lane.CONTROL, [A if sender == R else R], b"after"))
    assert [] == at_sender.deliveries


def test_a_party_cannot_read_the_queue_of_another(join: Join) -> None:
    lab, _ = join(R)
    _, at_beta = join(B, reads=[Inbox(A, R, Lane.CONTROL), Inbox(B, R, Lane.CONTROL)])
    settled(lab.publish(Lane.CONTROL, [A], b"for alpha"), lab.publish(Lane.CONTROL, [B], b"for beta"))
    at_beta.until_bodies(b"for beta")
    _, at_alpha = join(A)
    at_alpha.until_bodies(b"for alpha")
    assert [b"for beta"] == at_beta.bodies


def test_a_full_queue_refuses_until_there_is_room(join: Join) -> None:
    lab, _ = join(R)
    body = bytes(1024**2)
    futures = [lab.publish(Lane.CONTROL, [A], body) for _ in range(5)]
    settled(*futures[:4])
    with pytest.raises(QueueFullError):
        settled(futures[4])
    settled(lab.publish(Lane.CONTROL, [B], b"another queue"))
    _, at_alpha = join(A)
    at_alpha.until(lambda: len(at_alpha.deliveries) == 4)
    settled(lab.publish(Lane.CONTROL, [A], b"room again"))
    at_alpha.until(lambda: at_alpha.bodies[-1] == b"room again")


def test_telemetry_drops_the_oldest_when_nobody_reads(join: Join) -> None:
    alpha, at_alpha = join(A)
    at_alpha.until_connected()
    for index in range(LIMITS.telemetry_messages + 10):
        settled(alpha.publish(Lane.TELEMETRY, [R], str(index).encode()))
    settled(alpha.publish(Lane.CONTROL, [R], b"all sent"))
    _, at_lab = join(R)
    at_lab.until(lambda: len(at_lab.deliveries) >= LIMITS.telemetry_messages + 1)
    seen = [int(d.body) for d in at_lab.deliveries if d.lane is Lane.TELEMETRY]
    assert list(range(10, LIMITS.telemetry_messages + 10)) == seen


def test_telemetry_ends_at_once_and_is_dropped_without_a_connection(world: World, join: Join) -> None:
    alpha, at_alpha = join(A)
    at_alpha.until_connected()
    world.disconnect(A)
    at_alpha.until_disconnected()
    assert alpha.publish(Lane.TELEMETRY, [R], b"lost").done()
    world.reconnect(A)
    at_alpha.until_connected()
    settled(alpha.publish(Lane.TELEMETRY, [R], b"seen"))
    _, at_lab = join(R)
    at_lab.until_bodies(b"seen")


def test_the_largest_body_passes_and_a_larger_one_is_refused(join: Join) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A)
    largest = bytes(range(256)) * (MESSAGE_BYTES // 256)
    settled(lab.publish(Lane.BULK, [A], largest))
    for lane in Lane:
        with pytest.raises(MessageTooLargeError):
            settled(lab.publish(lane, [A], largest + b"+"))
    at_alpha.until_bodies(largest)


def test_publishing_to_no_recipients_ends_at_once(join: Join) -> None:
    lab, _ = join(R)
    settled(lab.publish(Lane.CONTROL, [], b"nobody"))


def test_the_receiver_and_the_listener_run_on_one_thread_of_the_transport(join: Join) -> None:
    lab, _ = join(R)
    _, at_alpha = join(A)
    settled(lab.publish(Lane.CONTROL, [A], b"one"), lab.publish(Lane.BULK, [A], b"two"))
    at_alpha.until(lambda: len(at_alpha.deliveries) == 2)
    assert 1 == len(at_alpha.threads)
    assert threading.current_thread().name not in at_alpha.threads


def test_watch_changes_the_queues_that_are_read(join: Join) -> None:
    lab, _ = join(R)
    alpha, at_alpha = join(A, reads=[])
    at_alpha.until_connected()
    settled(lab.publish(Lane.CONTROL, [A], b"control"), lab.publish(Lane.BULK, [A], b"bulk"))
    alpha.watch([Inbox(A, R, Lane.BULK)])
    at_alpha.until_bodies(b"bulk")
    alpha.watch([Inbox(A, R, Lane.CONTROL)])
    at_alpha.until_bodies(b"bulk", b"control")
    settled(lab.publish(Lane.BULK, [A], b"not read"), lab.publish(Lane.CONTROL, [A], b"read"))
    at_alpha.until_bodies(b"bulk", b"control", b"read")


def test_a_party_that_joins_later_is_read_after_the_next_watch(world: World, join: Join) -> None:
    gamma = PartyId("gamma")
    later = [*inboxes(R, "researcher", PARTIES), Inbox(R, gamma, Lane.CONTROL)]
    lab, at_lab = join(R, reads=later)
    alpha, _ = join(A)
    settled(alpha.publish(Lane.CONTROL, [R], b"from alpha"))
    at_lab.until(lambda: b"from alpha" in at_lab.bodies)
    world.add(gamma, "node")
    newcomer = world.transport(gamma)
    newcomer.start(Collector().receive, [])
    settled(newcomer.publish(Lane.CONTROL, [R], b"from gamma"))
    newcomer.close()
    lab.watch(later)
    at_lab.until(lambda: b"from gamma" in at_lab.bodies)
    # A queue that is not there ends the channel, and with it the delivery of what was not acknowledged yet.
    assert [b"from alpha", b"from gamma"] == list(dict.fromkeys(at_lab.bodies))


def test_a_revoked_party_is_cut_off_and_the_others_go_on(world: World, join: Join) -> None:
    lab, at_lab = join(R)
    _, at_alpha = join(A)
    beta, _ = join(B)
    at_alpha.until_connected()
    settled(beta.publish(Lane.CONTROL, [R], b"before"))
    world.remove(A)
    at_alpha.until_disconnected()
    with pytest.raises(UnroutableError):
        settled(lab.publish(Lane.CONTROL, [A], b"?"))
    settled(beta.publish(Lane.CONTROL, [R], b"after"))
    at_lab.until_bodies(b"before", b"after")


def test_close_fails_what_waits_and_can_be_repeated(world: World) -> None:
    lab = world.transport(R)
    world.disconnect(R)
    lab.start(Collector().receive, [])
    waiting = lab.publish(Lane.CONTROL, [A], b"waits")
    lab.close()
    lab.close()
    with pytest.raises(TransportClosedError):
        settled(waiting)
    with pytest.raises(TransportClosedError):
        settled(lab.publish(Lane.CONTROL, [A], b"late"))


def test_close_without_start_ends_at_once(world: World) -> None:
    lab = world.transport(R)
    waiting = lab.publish(Lane.CONTROL, [A], b"waits")
    lab.close()
    with pytest.raises(TransportClosedError):
        settled(waiting)
