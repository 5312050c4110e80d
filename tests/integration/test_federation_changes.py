"""What happens to a running broker, and to those connected to it, when parties come and go."""

import json
import time

import pytest

from common.errors import BrokerAdminError, BrokerUnreachableError
from common.ids import REGISTRAR, PartyId
from common.messages import RosterUpdate, decode
from common.security.roster import verify_roster
from common.security.sealing import Sealer
from common.transport.topology import Lane
from deploy.admin import Admin
from deploy.definitions import Names, full, names_in
from deploy.handover import hand_over, names_of_revoked
from deploy.membership import announce, synchronise
from tests.support.inbox import Collector, settled


@pytest.fixture
def join():
    """Start transports that are closed after the test."""
    opened = []

    def join(running, party):
        transport, collector = running.transport(party), Collector()
        opened.append(transport)
        transport.start(collector.receive, running.inboxes(party), collector.listen)
        return transport, collector

    yield join
    for transport in opened:
        transport.close()


def rosters(running, party, collector):
    """Return the rosters that a party received, opened and verified as the party does it."""
    kit = running.kit(party)
    sealer = Sealer(kit.identity, kit.roster)
    found = []
    for delivery in collector.deliveries:
        message, _ = decode(sealer.open(Lane.CONTROL, delivery.sender, delivery.body))
        assert isinstance(message, RosterUpdate)
        assert REGISTRAR == message.sender == delivery.sender
        found.append(verify_roster(message.document, message.signature, kit.authority, previous=None))
    return found


def test_a_new_node_can_talk_at_once_and_everybody_hears_of_it(make_federation, join):
    running = make_federation(researchers=("alice",), nodes=("north",))
    _, at_alice = join(running, "alice")
    _, at_north = join(running, "north")
    running.add("south", "node")

    for party, collector in (("alice", at_alice), ("north", at_north)):
        collector.until(lambda collector=collector: len(collector.deliveries) == 1)
        assert [running.federation.roster] == rosters(running, party, collector)
    south, at_south = join(running, "south")
    settled(south.publish(Lane.CONTROL, [PartyId("alice")], b"hello"))
    at_south.until(lambda: len(at_south.deliveries) == 1)


def test_who_is_away_finds_the_roster_on_return(make_federation, join):
    running = make_federation(researchers=("alice",), nodes=("north",))
    running.add("south", "node")
    running.revoke("south")

    _, at_north = join(running, "north")
    at_north.until(lambda: len(at_north.deliveries) == 2)
    serial = running.federation.roster.serial
    assert [serial - 1, serial] == [roster.serial for roster in rosters(running, "north", at_north)]


def test_after_a_revocation_the_others_stay_connected_and_the_queues_are_gone(make_federation, join):
    running = make_federation(researchers=("alice",), nodes=("north", "leaver"))
    alice, at_alice = join(running, "alice")
    at_alice.until_connected()
    running.revoke("leaver")

    at_alice.until(lambda: len(at_alice.deliveries) == 1)
    left = running.admin.names()
    assert not [name for name in left.queues + left.exchanges + left.users if "leaver" in name]
    assert [True] == [connected for connected, _ in at_alice.changes]
    settled(alice.publish(Lane.CONTROL, [PartyId("north")], b"hello"))


def test_the_broker_holds_exactly_what_the_roster_says(make_federation):
    running = make_federation(researchers=("alice", "bob"), nodes=("north", "south", "visitor"))
    running.add("carol", "researcher")
    running.revoke("visitor")
    running.revoke("bob")

    settings = running.federation.settings
    expected = names_in(full(running.federation.roster, running.vhost, settings.limits, lazy=False))
    found = running.admin.names()
    assert set(expected.queues) == set(found.queues)
    assert set(expected.exchanges) == {name for name in found.exchanges if name and "amq." not in name}
    assert set(expected.users) == {name for name in found.users if not name.startswith("_")}


def test_synchronising_twice_changes_nothing_and_mends_what_is_missing(make_federation):
    running = make_federation(researchers=("alice",), nodes=("north",))
    before = running.admin.names()
    running.admin.remove(Names(queues=("inbox.north.alice.control",), exchanges=("out.north",)))

    for _ in range(2):
        synchronise(running.federation, running.endpoint)
        assert before == running.admin.names()


def test_removing_what_is_gone_is_no_error(make_federation):
    running = make_federation(researchers=("alice",), nodes=("north",))
    gone = Names(users=("nobody",), exchanges=("out.nobody",), queues=("inbox.nobody.alice.control",))
    running.admin.remove(gone)
    running.admin.remove(gone)


def test_depths_are_told_for_every_queue(make_federation):
    running = make_federation(researchers=("alice",), nodes=("north",))

    assert set(running.admin.names().queues) == set(running.admin.depths())


def test_an_import_that_the_broker_refuses_says_why(make_federation):
    running = make_federation(researchers=("alice",), nodes=("north",))
    with pytest.raises(BrokerAdminError, match="400"):
        running.admin.import_definitions({"queues": [{"name": "x"}]})


def test_a_broker_that_does_not_answer_is_an_error(broker):
    with pytest.raises(BrokerAdminError, match="no answer"):
        Admin(1, "_operator", "secret", "heart").names()
    with pytest.raises(BrokerAdminError, match="401"):
        Admin(broker.endpoint.management_port, "_operator", "wrong", broker.vhost).names()


def test_an_announcement_that_nobody_takes_is_an_error_within_its_deadline(make_federation):
    running = make_federation(researchers=("alice",), nodes=("north",))
    path = running.kit_path(REGISTRAR) / "connection.toml"
    text = path.read_text().replace(f"port = {running.endpoint.port}", "port = 1")
    path.write_text(text + "\n[timeouts]\nconnect_s = 0.3\n")
    began = time.monotonic()
    with pytest.raises(BrokerUnreachableError, match="did not confirm"):
        announce(running.federation)

    assert time.monotonic() - began < 10


def test_the_files_for_somebody_elses_broker_are_complete(make_federation, tmp_path):
    running = make_federation(researchers=("alice",), nodes=("north", "visitor"))
    running.revoke("visitor")
    files = hand_over(running.federation, tmp_path / "out", lazy=True)

    expected = ["README.md", "ca.pem", "definitions.json", "enabled_plugins", "rabbitmq.conf", "server.key"]
    assert [*expected, "server.pem"] == [file.name for file in files]
    assert 0o600 == (tmp_path / "out" / "server.key").stat().st_mode & 0o777
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "delete_user visitor" in readme
    for queue in names_of_revoked(running.federation).queues:
        assert f"delete_queue {queue}" in readme
    running.admin.import_definitions(json.loads((tmp_path / "out" / "definitions.json").read_text()))
