"""The parts of the AMQP transport that need no broker."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.adapters.utils import connection_workflow as workflow

from common.clock import ManualClock
from common.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    CertificateExpiredError,
    QueueFullError,
    TransportClosedError,
    UnknownAuthorityError,
    UnroutableError,
    WarrenError,
)
from common.ids import PartyId
from common.metrics import RESENT_MESSAGES, UNCONFIRMED_MESSAGES, values
from common.settings import Connection, Timeouts
from common.transport.amqp import AmqpTransport, Backoff
from common.transport.amqp_connection import diagnose
from common.transport.amqp_publisher import Publisher
from common.transport.outgoing import Outgoing
from common.transport.topology import Lane
from tests.support.inbox import DEADLINE_S, Collector, settled

ALPHA, LAB = PartyId("alpha"), PartyId("lab")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def connection(port: int = 5671, **timeouts: float) -> Connection:
    return Connection(
        federation="trial",
        party=LAB,
        role="researcher",
        host="127.0.0.1",
        port=port,
        server_name="broker",
        vhost="trial",
        timeouts=Timeouts(**timeouts),
    )


# --- pauses


@settings(deadline=None)
@given(first=st.floats(0.01, 10), longest=st.floats(0.01, 100), seed=st.integers(), tries=st.integers(1, 200))
def test_pauses_grow_to_the_limit_and_never_beyond(
    first: float, longest: float, seed: int, tries: int
) -> None:
    backoff = Backoff(first, longest, random.Random(seed))  # noqa: S311  pauses are no secret
    pauses = [backoff.pause_s() for _ in range(tries)]
    assert all(0.75 * min(first, longest) <= pause <= longest for pause in pauses)
    backoff.reset()
    assert backoff.pause_s() <= first


# --- diagnosis


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "self-signed certificate"
    return error


def nested(error: BaseException) -> BaseException:
    return workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorTransportSetupError(error)])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            pika.exceptions.AMQPConnectionError(nested(ConnectionRefusedError(111, "Connection refused"))),
            BrokerUnreachableError,
        ),
        (nested(certificate_error(19)), UnknownAuthorityError),
        (nested(certificate_error(10)), CertificateExpiredError),
        (nested(socket.gaierror(-2, "Name or service not known")), BrokerUnreachableError),
        (pika.exceptions.StreamLostError("Transport indicated EOF"), BrokerUnreachableError),
        (pika.exceptions.AMQPHeartbeatTimeout("No activity"), BrokerUnreachableError),
        (
            pika.exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - user 'lab' is deleted"),
            BrokerRefusedError,
        ),
        (
            pika.exceptions.ConnectionClosedByBroker(
                320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
            ),
            BrokerUnreachableError,
        ),
        (
            pika.exceptions.ProbableAuthenticationError(
                "ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused'"
            ),
            BrokerRefusedError,
        ),
        (
            pika.exceptions.ProbableAuthenticationError("StreamLostError: ('Connection reset')"),
            BrokerUnreachableError,
        ),
        (
            pika.exceptions.IncompatibleProtocolError(
                "StreamLostError: (\"SSLError(1, '[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca')\")"
            ),
            BrokerRefusedError,
        ),
        (
            pika.exceptions.StreamLostError(
                "SSLError(1, '[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] ssl/tls alert certificate expired')"
            ),
            CertificateExpiredError,
        ),
        (pika.exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'out.lab'"), BrokerRefusedError),
    ],
)
def test_a_failure_is_told_in_our_own_errors(error: BaseException, expected: type[WarrenError]) -> None:
    assert type(diagnose(error, connection(), ManualClock())) is expected


# --- the publisher, over a channel that only records


@dataclass
class Channel:
    published: list[tuple[str, str, bytes, pika.BasicProperties]] = field(default_factory=list)
    confirm: Callable[[Any], None] = print
    returned: Callable[..., None] = print

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.returned = callback

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        pass

    def confirm_delivery(
        self, ack_nack_callback: Callable[[Any], None], callback: Callable[[Any], None]
    ) -> None:
        self.confirm = ack_nack_callback
        callback(None)

    def basic_publish(
        self, exchange: str, key: str, body: bytes, properties: pika.BasicProperties, *, mandatory: bool
    ) -> None:
        self.published.append((exchange, key, body, properties))


class Line:
    """A connection whose channels open when told to."""

    def __init__(self) -> None:
        self.channels: list[Channel] = []
        self.opening: list[Callable[[], None]] = []
        self.blocked: Callable[..., None] = print
        self.unblocked: Callable[..., None] = print

    def channel(self, on_open_callback: Callable[[Any], None]) -> Channel:
        channel = Channel()
        self.channels.append(channel)
        self.opening.append(lambda: on_open_callback(channel))
        return channel

    def add_on_connection_blocked_callback(self, callback: Callable[..., None]) -> None:
        self.blocked = callback

    def add_on_connection_unblocked_callback(self, callback: Callable[..., None]) -> None:
        self.unblocked = callback

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        self.channels[0].confirm(SimpleNamespace(method=pika.spec.Basic.Ack(tag, multiple)))

    def nack(self, tag: int, *, multiple: bool = False) -> None:
        self.channels[0].confirm(SimpleNamespace(method=pika.spec.Basic.Nack(tag, multiple)))

    def bodies(self) -> list[bytes]:
        return [body for _, _, body, _ in self.channels[0].published]


def attach(publisher: Publisher) -> Line:
    line, ready = Line(), []
    publisher.attach(line, lambda: ready.append(True), lambda _reason: None)
    while line.opening:
        line.opening.pop(0)()
    assert [True] == ready
    publisher.resume()
    return line


def add(publisher: Publisher, body: bytes, lane: Lane = Lane.CONTROL) -> Outgoing:
    item = Outgoing.of(lane, [ALPHA], body)
    publisher.add(item)
    return item


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def publisher(told: list[str]) -> Publisher:
    return Publisher(LAB, told.append)


def test_a_broadcast_is_one_publish(publisher: Publisher) -> None:
    line = attach(publisher)
    publisher.add(Outgoing.of(Lane.BULK, [ALPHA, PartyId("beta"), PartyId("gamma")], b"model"))
    [(exchange, key, body, properties)] = line.channels[0].published
    assert ("out.lab", "alpha.bulk", b"model") == (exchange, key, body)
    assert {"CC": ["beta.bulk", "gamma.bulk"]} == properties.headers
    assert ("lab", 2) == (properties.user_id, properties.delivery_mode)


@settings(deadline=None)
@given(data=st.data())
def test_confirms_in_any_order_and_of_several_at_once_end_each_publish_once(data: st.DataObject) -> None:
    publisher = Publisher(LAB, lambda _detail: None)
    line = attach(publisher)
    count = data.draw(st.integers(1, 20))
    items = [add(publisher, str(index).encode()) for index in range(count)]
    returned = data.draw(st.sets(st.integers(1, count)))
    for tag in returned:
        line.channels[0].returned(None, None, pika.BasicProperties(message_id=str(tag)), b"")
    expected: dict[int, type[WarrenError] | None] = {}
    for tag in data.draw(st.permutations(range(1, count + 1))):
        if tag in expected:
            continue
        multiple, accepted = data.draw(st.booleans()), data.draw(st.booleans())
        for ended in range(1 if multiple else tag, tag + 1):
            fate = UnroutableError if ended in returned else None if accepted else QueueFullError
            expected.setdefault(ended, fate)
        (line.ack if accepted else line.nack)(tag, multiple=multiple)
    fates = [type(item.future.exception()) if item.future.exception() else None for item in items]
    assert [expected[tag] for tag in range(1, count + 1)] == fates


def test_what_was_not_confirmed_is_sent_again_first_and_in_order(publisher: Publisher) -> None:
    line = attach(publisher)
    items = [add(publisher, str(index).encode()) for index in range(5)]
    line.ack(2)
    before = values(RESENT_MESSAGES, "lane").get("control", 0)
    assert 4 == values(UNCONFIRMED_MESSAGES)[""]
    publisher.detach()
    assert 4 == values(RESENT_MESSAGES, "lane")["control"] - before
    items.append(add(publisher, b"later"))
    second = attach(publisher)
    assert [b"0", b"2", b"3", b"4", b"later"] == second.bodies()
    line.ack(1)  # stale: of the connection that is gone
    second.ack(5, multiple=True)
    settled(*[item.future for item in items])
    assert 0 == values(UNCONFIRMED_MESSAGES)[""]


def test_a_broker_that_blocks_gets_nothing_until_it_unblocks(publisher: Publisher, told: list[str]) -> None:
    line = attach(publisher)
    line.blocked(None, SimpleNamespace(method=SimpleNamespace(reason="low on memory")))
    add(publisher, b"one")
    add(publisher, b"lost", Lane.TELEMETRY)
    assert [] == line.bodies()
    assert ["the broker takes no messages for now: low on memory"] == told
    line.unblocked(None, None)
    assert [b"one"] == line.bodies()
    assert [] == line.channels[1].published


def test_idle_is_told_once_everything_is_confirmed(publisher: Publisher) -> None:
    line, idle = attach(publisher), []
    add(publisher, b"one")
    publisher.when_idle(lambda: idle.append(True))
    assert [] == idle
    line.ack(1)
    assert [True] == idle


# --- the transport, without any broker


def transport(port: int, **timeouts: float) -> AmqpTransport:
    settings = connection(port, reconnect_first_s=0.01, reconnect_max_s=0.02, **timeouts)
    return AmqpTransport(settings, ssl.create_default_context())


def test_absence_is_told_once_however_often_it_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level("INFO", "common.transport"):
        server.settimeout(DEADLINE_S)
        lab = transport(server.getsockname()[1])
        waiting = lab.publish(Lane.CONTROL, [ALPHA], b"waits")
        lab.start(collector.receive, [], collector.listen)
        for _connection in range(8):
            server.accept()[0].close()
        lab.close()
    with pytest.raises(TransportClosedError):
        settled(waiting)
    assert 1 == len(collector.changes)
    assert "WRN-201" in collector.changes[0][1]
    assert ["no connection to the broker, will keep trying"] == [record.message for record in caplog.records]


def test_absence_is_repeated_in_the_log_rarely(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level("INFO", "common.transport"):
        server.settimeout(DEADLINE_S)
        there = connection(server.getsockname()[1], reconnect_first_s=0.01, reconnect_max_s=0.02)
        lab = AmqpTransport(there, ssl.create_default_context(), clock=clock)
        lab.start(Collector().receive, [])
        for _connection in range(6):
            server.accept()[0].close()
        assert 1 == len(caplog.records)
        clock.advance(600.0)
        for _connection in range(6):
            server.accept()[0].close()
        lab.close()
    assert 2 == len(caplog.records)


def test_a_port_where_nobody_listens_is_told_as_unreachable() -> None:
    collector = Collector()
    lab = transport(free_port())
    lab.start(collector.receive, [], collector.listen)
    collector.until_disconnected()
    lab.close()
    assert "WRN-201" in collector.changes[0][1]


def test_close_does_not_wait_for_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        lab = transport(mute.getsockname()[1])
        lab.start(Collector().receive, [])
        lab.close()


def test_a_server_that_says_nothing_is_given_up_after_the_time_to_connect() -> None:
    collector = Collector()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        lab = transport(mute.getsockname()[1], connect_s=0.1)
        lab.start(collector.receive, [], collector.listen)
        collector.until_disconnected()
        lab.close()
    assert "WRN-201" in collector.changes[0][1]


def test_a_transport_that_was_closed_cannot_be_started() -> None:
    lab = transport(free_port())
    lab.close()
    with pytest.raises(TransportClosedError):
        lab.start(Collector().receive, [])
