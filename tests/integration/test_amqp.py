"""The AMQP transport on a real RabbitMQ: lost lines, dead brokers, forged senders."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

from common.ids import PartyId
from common.metrics import BLOCKED, REFUSED_MESSAGES
from common.transport.amqp import AmqpTransport
from common.transport.base import Delivery
from common.transport.topology import Inbox, Lane, exchange, routing_key
from deploy.broker import PrivateBroker
from deploy.federation import Federation
from tests.support.broker import FAST, AmqpWorld, RunningFederation, ctl
from tests.support.inbox import DEADLINE_S, Collector, settled
from tests.support.proxy import Proxy

pytestmark = pytest.mark.broker

R, A, B = PartyId("lab"), PartyId("alpha"), PartyId("beta")

Join = Callable[..., tuple[AmqpTransport, Collector]]


class Wire(AmqpWorld):
    """A federation of researcher lab and nodes alpha and beta, and the lines that they dial."""

    def __init__(self, running: RunningFederation) -> None:
        super().__init__(running)
        self.running = running

    def line(self, party: PartyId) -> Proxy:
        return self._line(party)

    def transport(self, party: PartyId, **timeouts: float) -> AmqpTransport:
        limits = FAST.model_copy(update=timeouts)
        return self.running.transport(party, port=self.line(party).port, timeouts=limits)

    def until_dead(self, *bodies: bytes) -> None:
        """Wait until these were set aside: the broker moves them in its own time."""
        deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
        while list(bodies) != (found := self.dead()) and time.monotonic() < deadline:
            pause.wait(0.02)
        assert list(bodies) == found


@pytest.fixture
def wire(make_federation: Callable[..., RunningFederation]) -> Iterator[Wire]:
    wire = Wire(make_federation(researchers=(R,), nodes=(A, B)))
    yield wire
    wire.close()


@pytest.fixture
def join(wire: Wire) -> Iterator[Join]:
    """Start a transport that reads all its queues."""
    opened: list[AmqpTransport] = []

    def join(party: PartyId, *, ack: bool = True, **timeouts: float) -> tuple[AmqpTransport, Collector]:
        transport, collector = wire.transport(party, **timeouts), Collector(ack=ack)
        opened.append(transport)
        transport.start(collector.receive, wire.running.inboxes(party), collector.listen)
        return transport, collector

    yield join
    for transport in opened:
        transport.close()


def first_occurrences(bodies: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(bodies))


def test_a_line_cut_again_and_again_loses_nothing_and_keeps_the_order(wire: Wire, join: Join) -> None:
    lab, at_lab = join(R)
    _, at_alpha = join(A)
    at_lab.until_connected()
    bodies = [str(index).encode() for index in range(600)]
    futures = []
    for index, body in enumerate(bodies):
        futures.append(lab.publish(Lane.CONTROL, [A], body))
        if index % 200 == 100:
            futures[index - 100].result(30)
            wire.line(R if index < 300 else A).cut()
    settled(*futures)
    at_alpha.until(lambda: len(set(at_alpha.bodies)) == len(bodies))
    assert bodies == first_occurrences(at_alpha.bodies)


def test_chunks_survive_a_cut_in_mid_transfer(wire: Wire, join: Join) -> None:
    alpha, at_alpha = join(A)
    _, at_lab = join(R)
    at_alpha.until_connected()
    chunks = [bytes([index]) * 1024**2 for index in range(8)]
    futures = [alpha.publish(Lane.BULK, [R], chunk) for chunk in chunks[:4]]
    futures[0].result(30)
    wire.line(A).cut()
    futures += [alpha.publish(Lane.BULK, [R], chunk) for chunk in chunks[4:]]
    settled(*futures)
    at_lab.until(lambda: len(set(at_lab.bodies)) == len(chunks))
    assert chunks == first_occurrences(at_lab.bodies)


def test_a_line_that_went_silent_is_noticed_by_the_heartbeat_and_replaced(wire: Wire, join: Join) -> None:
    lab, at_lab = join(R, heartbeat_s=1)
    _, at_alpha = join(A)
    at_lab.until_connected()
    wire.line(R).freeze()
    future = lab.publish(Lane.CONTROL, [A], b"into the void")
    at_lab.until_disconnected()
    wire.line(R).cut()
    wire.line(R).thaw()
    settled(future)
    at_alpha.until(lambda: b"into the void" in at_alpha.bodies)


def test_close_does_not_wait_for_a_line_that_went_silent(wire: Wire, join: Join) -> None:
    lab, at_lab = join(R)
    at_lab.until_connected()
    wire.line(R).freeze()
    lab.publish(Lane.CONTROL, [A], b"never arrives")
    started = time.monotonic()
    lab.close()
    assert time.monotonic() - started < 3
    wire.line(R).thaw()


def test_a_slow_line_only_takes_longer(wire: Wire, join: Join) -> None:
    wire.line(R).delay(0.02)
    lab, _ = join(R)
    _, at_alpha = join(A)
    settled(*[lab.publish(Lane.CONTROL, [A], b"slow") for _ in range(10)])
    at_alpha.until_bodies(*[b"slow"] * 10)


def test_close_sends_what_was_published_and_acknowledged_just_before(join: Join) -> None:
    lab, at_lab = join(R)
    alpha, at_alpha = join(A, ack=False)
    at_lab.until_connected()
    futures = [lab.publish(Lane.CONTROL, [A], str(index).encode()) for index in range(20)]
    lab.close()
    settled(*futures)
    at_alpha.until(lambda: len(at_alpha.deliveries) == 20)
    for delivery in at_alpha.deliveries:
        delivery.ack()
    alpha.close()
    lab, _ = join(R)
    settled(lab.publish(Lane.CONTROL, [A], b"next"))
    _, again = join(A)
    again.until_bodies(b"next")


def test_heartbeats_go_on_while_every_other_thread_is_busy(join: Join) -> None:
    _, at_lab = join(R, heartbeat_s=1)
    at_lab.until_connected()
    end = time.monotonic() + 7

    def work() -> None:
        while time.monotonic() < end:
            sum(range(10_000))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(at_lab.changes)


def test_a_receiver_that_fails_costs_its_message_and_nothing_else(wire: Wire, join: Join) -> None:
    lab, _ = join(R)
    alpha, collector = wire.transport(A), Collector()

    def receive(delivery: Delivery) -> None:
        if delivery.body == b"bad":
            raise ValueError(delivery.body)
        collector.receive(delivery)

    alpha.start(receive, [Inbox(A, R, Lane.CONTROL)])
    settled(lab.publish(Lane.CONTROL, [A], b"bad"), lab.publish(Lane.CONTROL, [A], b"good"))
    collector.until_bodies(b"good")
    wire.until_dead(b"bad")
    alpha.close()


def test_a_message_without_its_sender_is_set_aside(wire: Wire, join: Join) -> None:
    _, at_lab = join(R)
    alpha, _ = join(A)
    at_lab.until_connected()
    before = REFUSED_MESSAGES.labels("forged")._value.get()
    with wire.running.connect(A) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange(A), routing_key(R, Lane.CONTROL), b"whose?")
    settled(alpha.publish(Lane.CONTROL, [R], b"mine"))
    at_lab.until_bodies(b"mine")
    wire.until_dead(b"whose?")
    assert before + 1 == REFUSED_MESSAGES.labels("forged")._value.get()


@pytest.mark.parametrize(
    ("name", "claim"),
    [(exchange(A), B), (exchange(B), A), (exchange(R), A), ("", A), ("amq.topic", A)],
    ids=["another name", "another's exchange", "the researcher's", "the default exchange", "a built-in one"],
)
def test_the_broker_refuses_a_party_that_speaks_for_another(wire: Wire, name: str, claim: PartyId) -> None:
    with wire.running.connect(A) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(user_id=claim)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match=r"403|406"):
            channel.basic_publish(name, routing_key(R, Lane.CONTROL), b"forged", properties)


def test_copies_cannot_be_sent_from_one_party_in_the_name_of_another(wire: Wire, join: Join) -> None:
    """RabbitMQ 3.10 does not check the CC header against topic permissions; exchanges of one's own need no such check."""
    _, at_beta = join(B)
    alpha, _ = join(A)
    lab, _ = join(R)
    with wire.running.connect(A) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        headers = {"CC": [routing_key(B, Lane.CONTROL), Inbox(B, R, Lane.CONTROL).queue]}
        properties = pika.BasicProperties(user_id=A, headers=headers)
        channel.basic_publish(exchange(A), routing_key(R, Lane.CONTROL), b"copied", properties)
    settled(alpha.publish(Lane.CONTROL, [R], b"barrier"), lab.publish(Lane.CONTROL, [B], b"real"))
    at_beta.until_bodies(b"real")


def refusal(transport: AmqpTransport) -> str:
    """Start a transport that cannot connect, and return what it says."""
    collector = Collector()
    transport.start(collector.receive, [], collector.listen)
    collector.until_disconnected()
    transport.close()
    return collector.changes[0][1]


def test_a_broker_of_another_authority_is_told_as_such(wire: Wire, tmp_path: Path) -> None:
    port = wire.running.endpoint.port
    other = RunningFederation(
        Federation.create(tmp_path / "other", "other", port=port), wire.running.endpoint
    )
    assert "WRN-303" in refusal(other.transport("registrar"))


def test_a_party_that_the_broker_does_not_know_is_told_as_refused(wire: Wire) -> None:
    wire.running.federation.add("late", "node")  # it has a kit, but the broker was not told
    assert "WRN-202" in refusal(wire.transport(PartyId("late")))


def test_a_revoked_party_is_told_as_refused(wire: Wire, join: Join) -> None:
    _, at_alpha = join(A)
    at_alpha.until_connected()
    wire.remove(A)
    at_alpha.until(lambda: any("WRN-202" in detail for _, detail in at_alpha.changes))


def test_a_broker_short_of_memory_pauses_publishing_and_nothing_else(wire: Wire, join: Join) -> None:
    lab, at_lab = join(R)
    alpha, at_alpha = join(A)
    at_lab.until_connected()
    settled(alpha.publish(Lane.CONTROL, [R], b"before"))
    at_lab.until_bodies(b"before")
    ctl(wire.running.endpoint, "set_vm_memory_high_watermark", "absolute", "10MB")
    try:
        settled_or_not = lab.publish(Lane.CONTROL, [A], b"first")  # a broker tells those who publish
        at_lab.until(lambda: BLOCKED._value.get() == 1)
        waiting = lab.publish(Lane.CONTROL, [A], b"second")
        assert not waiting.done()
        assert (True, "the broker takes no messages for now: low on memory") == at_lab.changes[-1]
    finally:
        ctl(wire.running.endpoint, "set_vm_memory_high_watermark", "0.5")
    settled(settled_or_not, waiting)
    at_alpha.until_bodies(b"first", b"second")


def test_a_killed_broker_loses_no_confirmed_message(tmp_path: Path) -> None:
    """Also: a transport that started before there was a broker connects when it comes."""
    federation = Federation.create(tmp_path / "federation", "trial")
    federation.add(R, "researcher")
    federation.add(A, "node")
    broker = PrivateBroker(federation)
    broker.launch()  # the port is reserved, and nobody answers yet
    running = RunningFederation(federation, broker.endpoint)
    lab, alpha = running.transport(R, timeouts=FAST), running.transport(A, timeouts=FAST)
    at_lab, at_alpha = Collector(), Collector()
    try:
        lab.start(at_lab.receive, running.inboxes(R), at_lab.listen)
        early = lab.publish(Lane.CONTROL, [A], b"early")
        at_lab.until_disconnected()
        broker.wait_ready()
        settled(early)
        bodies = [b"early", *(str(index).encode() * 1000 for index in range(400))]
        futures = [lab.publish(Lane.CONTROL, [A], body) for body in bodies[1:]]
        futures[100].result(DEADLINE_S)
        broker.kill()
        broker.start()
        settled(*futures)
        alpha.start(at_alpha.receive, running.inboxes(A), at_alpha.listen)
        at_alpha.until(lambda: len(set(at_alpha.bodies)) == len(bodies))
        assert bodies == first_occurrences(at_alpha.bodies)
    finally:
        lab.close()
        alpha.close()
        broker.kill()
