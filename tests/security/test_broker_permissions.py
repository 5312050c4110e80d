"""What a hostile party, or somebody without a kit, can do to the broker over the real wire: nothing to others."""

import http.client
import socket
import ssl
import threading
import time
import warnings
from base64 import b64encode
from contextlib import suppress

import pika
import pytest
from pika import BasicProperties
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    ChannelClosedByBroker,
    NackError,
)

from common.ids import PartyId
from common.security.kit import KEY
from common.transport.topology import Lane
from deploy.configuration import MESSAGE_BYTES
from deploy.definitions import CHANNELS_PER_CONNECTION, CONNECTIONS, OPERATOR
from deploy.federation import QueueLimits
from tests.support.broker import FAST
from tests.support.certificates import make_authority
from tests.support.inbox import Collector, settled

ACCESS_REFUSED, PRECONDITION_FAILED = 403, 406
REFUSALS = (AMQPError, OSError)


@pytest.fixture
def dial():
    """Open bare connections that are closed after the test."""
    opened = []

    def dial(running, party, **options):
        opened.append(running.connect(party, **options))
        return opened[-1]

    yield dial
    for connection in opened:
        with suppress(AMQPError):
            connection.close()


@pytest.fixture
def north(broker, dial):
    """A channel of the node north, over which it does as it likes."""
    return dial(broker, "north").channel()


def cut_off(connection):
    """Return whether the broker closed the connection."""
    try:
        connection.process_data_events(time_limit=10)
        connection.channel()
    except AMQPConnectionError:
        return True
    return False


def publish(channel, exchange, key, body=b"x", **properties):
    """Publish and wait for the broker's word on it."""
    channel.confirm_delivery()
    channel.basic_publish(exchange, key, body, BasicProperties(delivery_mode=2, **properties), mandatory=True)


def eventually(condition, deadline_s=20.0):
    """Wait until something that the broker does in its own time is so."""
    never, deadline = threading.Event(), time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        never.wait(0.02)


def consume(channel, queue):
    channel.basic_consume(queue, lambda *_: None)


READS = [
    ("consume another node's queue", lambda c: consume(c, "inbox.south.alice.control")),
    ("get from another node's queue", lambda c: c.basic_get("inbox.south.alice.control")),
    ("purge another node's queue", lambda c: c.queue_purge("inbox.south.alice.bulk")),
    ("consume what it sent itself", lambda c: consume(c, "inbox.alice.north.control")),
    ("consume what a node sends", lambda c: consume(c, "inbox.alice.south.telemetry")),
    ("consume the dead letters", lambda c: consume(c, "dead")),
]
CHANGES = [
    ("delete another node's queue", lambda c: c.queue_delete("inbox.south.alice.control")),
    ("delete its own queue", lambda c: c.queue_delete("inbox.north.alice.control")),
    ("declare a queue", lambda c: c.queue_declare("mine", durable=True)),
    ("declare a queue without a name", lambda c: c.queue_declare("", exclusive=True)),
    ("declare an exchange", lambda c: c.exchange_declare("mine", "fanout", durable=True)),
    ("delete another node's exchange", lambda c: c.exchange_delete("out.south")),
    (
        "bind its own queue to another node's exchange",
        lambda c: c.queue_bind("inbox.north.alice.control", "out.south", "alice.control"),
    ),
    (
        "bind its own queue to the researcher's exchange",
        lambda c: c.queue_bind("inbox.north.alice.control", "out.alice", "south.control"),
    ),
    (
        "bind another node's queue to its own exchange",
        lambda c: c.queue_bind("inbox.south.alice.control", "out.north", "south.control"),
    ),
    (
        "unbind another node's queue",
        lambda c: c.queue_unbind("inbox.south.alice.control", "out.alice", "south.control"),
    ),
    ("bind exchanges together", lambda c: c.exchange_bind("out.north", "out.alice", "south.control")),
]
WRITES = [
    ("write as another node", lambda c: publish(c, "out.south", "alice.control")),
    ("write as the researcher", lambda c: publish(c, "out.alice", "south.control")),
    ("write as the registrar", lambda c: publish(c, "out.registrar", "south.control")),
    ("write straight into a queue", lambda c: publish(c, "", "inbox.south.alice.control")),
    ("write to an exchange that everybody knows", lambda c: publish(c, "amq.topic", "alice.control")),
    ("write dead letters", lambda c: publish(c, "dead", "")),
]


@pytest.mark.parametrize(
    "attempt", [pytest.param(attempt, id=name) for name, attempt in READS + CHANGES + WRITES]
)
def test_a_node_is_refused_everything_that_is_not_its_own(north, attempt):
    with pytest.raises(ChannelClosedByBroker) as refusal:
        attempt(north)

    assert ACCESS_REFUSED == refusal.value.reply_code


def test_a_node_may_read_its_own_queues_and_write_its_own_exchange(make_federation, dial):
    running = make_federation(researchers=("alice",), nodes=("north",))
    alice, north = dial(running, "alice"), dial(running, "north")
    publish(alice.channel(), "out.alice", "north.control", b"hello", user_id="alice")

    assert b"hello" == north.channel().basic_get("inbox.north.alice.control", auto_ack=True)[2]
    publish(north.channel(), "out.north", "alice.control", b"hello back", user_id="north")
    assert b"hello back" == alice.channel().basic_get("inbox.alice.north.control", auto_ack=True)[2]


def test_a_forged_user_id_is_refused_by_the_broker(north):
    with pytest.raises(ChannelClosedByBroker) as refusal:
        publish(north, "out.north", "alice.control", user_id="south")

    assert PRECONDITION_FAILED == refusal.value.reply_code


def test_a_message_without_user_id_ends_among_the_dead_letters(make_federation, dial):
    running = make_federation(researchers=("alice",), nodes=("north",))
    north = dial(running, "north")
    alice, collector = running.transport("alice"), Collector()
    alice.start(collector.receive, running.inboxes("alice"), collector.listen)
    publish(north.channel(), "out.north", "alice.control", b"anonymous")
    publish(north.channel(), "out.north", "alice.control", b"signed", user_id="north")

    collector.until_bodies(b"signed")
    eventually(lambda: [b"anonymous"] == running.dead())


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_copy_headers_reach_only_queues_that_the_party_may_fill_anyway(make_federation, header, dial):
    running = make_federation(researchers=("alice", "bob"), nodes=("north", "south"))
    everything = ["south.control", "inbox.south.alice.control", "inbox.alice.south.control", "#", "dead"]
    north = dial(running, "north")
    publish(north.channel(), "out.north", "alice.control", headers={header: [*everything, "bob.control"]})

    expected = {"inbox.alice.north.control", "inbox.bob.north.control"}
    assert expected == {name for name, depth in running.depths().items() if depth}


def test_a_flooder_fills_its_own_lane_and_nobody_elses(make_federation, dial):
    running = make_federation(
        researchers=("alice",), nodes=("north", "south"), limits=QueueLimits(control_bytes=2**20)
    )
    north, south = dial(running, "north"), dial(running, "south")
    flood = north.channel()
    for _ in range(5):
        publish(flood, "out.north", "alice.control", bytes(200_000))
    with pytest.raises(NackError):
        publish(flood, "out.north", "alice.control", bytes(200_000))

    assert 5 == running.depth("inbox.alice.north.control")
    publish(south.channel(), "out.south", "alice.control", b"still heard")
    publish(north.channel(), "out.north", "alice.bulk", b"another lane")
    assert 1 == running.depth("inbox.alice.south.control")


def test_telemetry_that_nobody_reads_is_forgotten_and_never_refused(make_federation, dial):
    running = make_federation(
        researchers=("alice",), nodes=("north",), limits=QueueLimits(telemetry_messages=5)
    )
    north = dial(running, "north")
    channel = north.channel()
    for number in range(20):
        publish(channel, "out.north", "alice.telemetry", str(number).encode())

    assert 5 == running.depth("inbox.alice.north.telemetry")


def test_a_message_that_no_party_would_send_is_too_large_for_the_broker(north):
    with pytest.raises(ChannelClosedByBroker) as refusal:
        publish(north, "out.north", "alice.bulk", bytes(MESSAGE_BYTES + 1))

    assert PRECONDITION_FAILED == refusal.value.reply_code


def test_one_party_cannot_take_all_connections(make_federation, dial):
    running = make_federation(researchers=("alice",), nodes=("greedy", "modest"))
    for _ in range(CONNECTIONS["node"]):
        dial(running, "greedy")
    with pytest.raises(AMQPConnectionError, match="user connection limit"):
        dial(running, "greedy")

    dial(running, "modest")


def test_one_party_cannot_take_all_channels(make_federation, dial):
    running = make_federation(researchers=("alice",), nodes=("greedy-too",))
    connection = dial(running, "greedy-too")
    for _ in range(CONNECTIONS["node"] * CHANNELS_PER_CONNECTION):
        connection.channel()
    with pytest.raises(AMQPError, match="limit"):
        connection.channel()


def test_a_party_of_another_federation_on_the_same_broker_is_refused(broker, make_federation, dial):
    other = make_federation(researchers=("carol",), nodes=())
    with pytest.raises(AMQPError, match="vhost"):
        dial(broker, "north", vhost=other.vhost)


def test_passwords_open_nothing(broker, dial):
    for user, password in (("north", ""), ("guest", "guest"), (OPERATOR, broker.endpoint.password)):
        with pytest.raises(AuthenticationError):
            dial(broker, "north", credentials=pika.PlainCredentials(user, password))


def test_a_party_has_no_access_to_the_http_api(broker):
    for user in ("north", "guest"):
        connection = http.client.HTTPConnection("127.0.0.1", broker.endpoint.management_port, timeout=10)
        token = b64encode(f"{user}:".encode()).decode()
        connection.request("GET", "/api/overview", headers={"Authorization": f"Basic {token}"})
        assert 401 == connection.getresponse().status
        connection.close()


def trusting(broker):
    """Return the client side of TLS that believes the broker, but shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=broker.federation.authority.cert_pem.decode())
    return context


def showing(broker, folder, cert_pem, key_pem):
    (folder / "cert.pem").write_bytes(cert_pem)
    (folder / "key.pem").write_bytes(key_pem)
    context = trusting(broker)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_without_a_certificate_nobody_gets_in(broker, dial):
    with pytest.raises(REFUSALS):
        dial(broker, "north", context=trusting(broker))


def test_a_certificate_of_another_authority_is_refused(broker, tmp_path, dial):
    forged = make_authority("Warren authority of shared").issue("north")
    with pytest.raises(REFUSALS):
        dial(broker, "north", context=showing(broker, tmp_path, forged.cert_pem, forged.key_pem))


def test_a_certificate_for_somebody_who_was_never_added_is_refused(broker, tmp_path, dial):
    issued = broker.federation.authority.issue_party(PartyId("nobody"), now=time.time())
    with pytest.raises(AMQPConnectionError):
        dial(broker, "north", context=showing(broker, tmp_path, issued.cert_pem, issued.key_pem))


def test_an_expired_certificate_is_refused(broker, tmp_path, dial):
    long_ago = time.time() - 100 * 86400
    issued = broker.federation.authority.issue_party(PartyId("north"), now=long_ago, days=10)
    with pytest.raises(REFUSALS):
        dial(broker, "north", context=showing(broker, tmp_path, issued.cert_pem, issued.key_pem))


def test_the_certificate_of_the_broker_is_of_no_use_as_a_party(broker, dial):
    context, folder = trusting(broker), broker.federation.path / "broker"
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with pytest.raises(REFUSALS):
        dial(broker, "north", context=context)


def test_without_tls_the_broker_says_nothing(broker):
    with socket.create_connection(("127.0.0.1", broker.endpoint.port), 10) as line:
        line.sendall(b"AMQP\0\0\x09\x01")
        with suppress(ConnectionResetError):
            assert b"AMQP" not in line.recv(100)


def test_old_tls_is_refused(broker, dial):
    context = broker.kit("north").ssl_context()
    with warnings.catch_warnings(action="ignore"):  # that they are old is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(REFUSALS):
        dial(broker, "north", context=context)


def test_a_party_refuses_a_broker_that_its_authority_did_not_sign(broker, dial):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=make_authority().cert_pem.decode())
    with pytest.raises(REFUSALS):
        dial(broker, "north", context=context)


def test_a_party_that_is_revoked_loses_its_connection_at_once_and_cannot_come_back(make_federation, dial):
    running = make_federation(researchers=("alice",), nodes=("mallory", "south"))
    kit = running.kit("mallory")
    mallory, south = dial(running, "mallory"), dial(running, "south")
    publish(mallory.channel(), "out.mallory", "alice.control", b"last words")
    running.revoke("mallory")

    assert cut_off(mallory)
    with pytest.raises(REFUSALS):
        dial(running, "south", context=kit.ssl_context())  # the certificate itself has not expired
    assert not [name for name in running.admin.names().queues if "mallory" in name]
    publish(south.channel(), "out.south", "alice.control", b"not affected")


def test_revocation_also_reaches_a_party_that_another_federation_knows(make_federation, dial):
    one = make_federation(researchers=("alice",), nodes=("shared-node",))
    two = make_federation(researchers=("alice",), nodes=("shared-node",))
    in_one = dial(one, "shared-node")
    one.revoke("shared-node")

    assert cut_off(in_one)
    with pytest.raises(AMQPError):
        dial(one, "alice", context=two.kit("shared-node").ssl_context())
    dial(two, "shared-node")


def test_a_revoked_transport_keeps_out_and_the_researcher_is_not_disturbed(make_federation):
    running = make_federation(researchers=("alice",), nodes=("eve", "south"))
    eve, at_eve = running.transport("eve", timeouts=FAST), Collector()
    alice, at_alice = running.transport("alice"), Collector()
    south = running.transport("south")
    eve.start(at_eve.receive, running.inboxes("eve"), at_eve.listen)
    alice.start(at_alice.receive, running.inboxes("alice"), at_alice.listen)
    south.start(lambda delivery: delivery.ack(), ())
    at_eve.until_connected()
    running.revoke("eve")

    at_eve.until_disconnected()
    settled(south.publish(Lane.CONTROL, [PartyId("alice")], b"hello"))
    at_alice.until(lambda: b"hello" in at_alice.bodies)
    assert [True] == [connected for connected, _ in at_alice.changes]
    for transport in (eve, alice, south):
        transport.close()


def test_the_private_key_of_a_kit_is_not_readable_by_others(broker):
    assert 0o600 == (broker.kit_path("north") / KEY).stat().st_mode & 0o777
