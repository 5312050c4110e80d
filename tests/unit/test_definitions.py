"""What a broker must hold for a roster, and what it must lose."""

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ids import SLUG, Digest, PartyId
from common.security.roster import Member, Roster
from common.security.sealing import SEALED_BYTES
from common.transport.topology import DEAD, Inbox, Lane, exchange, inboxes
from deploy.configuration import ENABLED_PLUGINS, MESSAGE_BYTES, BrokerPlaces, rabbitmq_conf
from deploy.definitions import OPERATOR, Names, full, names_in, obsolete, with_operator
from deploy.federation import QueueLimits

ROLES = {
    "registrar": "registrar",
    "alice": "researcher",
    "bob": "researcher",
    "north": "node",
    "south": "node",
}


def roster(roles=ROLES, revoked=()):
    members = tuple(
        Member(
            party=PartyId(party),
            role=role,
            certificate_sha256=Digest("0" * 64),
            signing_key="1" * 64,
            sealing_key="2" * 64,
            added_at=1.0,
            revoked_at=2.0 if party in revoked else None,
        )
        for party, role in roles.items()
    )
    return Roster(federation="heart", serial=1, issued_at=1.0, members=members)


def definitions(roles=ROLES, *, revoked=(), lazy=True, **limits):
    return full(roster(roles, revoked), "heart", QueueLimits(**limits), lazy=lazy)


def policy_of(document, queue):
    found = [one for one in document["policies"] if re.search(one["pattern"], queue)]
    assert 1 == len(found), f"{queue} has {len(found)} policies"
    return found[0]["definition"]


def permissions(document):
    return {one["user"]: one for one in document["permissions"]}


def test_no_party_has_a_password():
    assert {""} == {user["password_hash"] for user in definitions()["users"]}


def test_no_party_but_the_registrar_has_a_tag_and_each_has_limits():
    for user in definitions()["users"]:
        assert (["impersonator"] if user["name"] == "registrar" else []) == user["tags"]
        assert user["limits"]["max-connections"] >= 4
        assert user["limits"]["max-channels"] >= user["limits"]["max-connections"]


def test_every_pair_that_may_talk_has_its_queue_for_each_lane_and_no_other_exists():
    document = definitions()
    parties = list(ROLES.items())
    expected = {box.queue for party, role in parties for box in inboxes(party, role, parties)} | {DEAD}

    assert expected == set(names_in(document).queues)
    assert "inbox.north.south.control" not in expected
    assert {"alice", "bob", "registrar"} == {
        name.split(".")[2] for name in expected if name.startswith("inbox.north.")
    }


def test_each_queue_is_fed_by_its_sender_alone():
    for binding in definitions()["bindings"]:
        if binding["source"] == DEAD:
            continue
        _, recipient, sender, lane = binding["destination"].split(".")
        assert (exchange(sender), f"{recipient}.{lane}") == (binding["source"], binding["routing_key"])


def test_queue_arguments_name_the_type_alone_so_that_every_version_takes_them():
    document = definitions()

    assert [{"x-queue-type": "classic"}] * len(document["queues"]) == [
        queue["arguments"] for queue in document["queues"]
    ]
    assert all(entry["durable"] for entry in document["queues"] + document["exchanges"])


slugs = st.from_regex(SLUG, fullmatch=True)


@given(slugs, slugs, st.sampled_from(Lane))
def test_a_party_may_read_its_own_queues_and_write_its_own_exchange_and_nothing_else(me, other, lane):
    mine = permissions(definitions({me: "node"}))[me]

    assert not re.search(mine["configure"], f"inbox.{me}.{other}.{lane}")
    assert re.search(mine["read"], Inbox(me, other, lane).queue)
    assert re.search(mine["write"], exchange(me))
    for forbidden in (
        DEAD,
        "",
        "amq.direct",
        "amq.topic",
        "amq.default",
        exchange(me) + "x",
        "x" + exchange(me),
    ):
        assert not re.search(mine["write"], forbidden)
        assert not re.search(mine["read"], forbidden)
    if me != other:
        assert not re.search(mine["read"], Inbox(other, me, lane).queue)
        assert not re.search(mine["write"], exchange(other))


def test_every_queue_has_exactly_one_policy():
    document = definitions()
    for queue in document["queues"]:
        assert policy_of(document, queue["name"])


def test_control_and_bulk_refuse_when_full_and_telemetry_forgets():
    document = definitions(control_bytes=2**21, bulk_bytes=2**22, telemetry_messages=7)
    control, bulk, telemetry = (policy_of(document, Inbox("alice", "north", lane).queue) for lane in Lane)

    assert ("reject-publish", 2**21, DEAD) == (
        control["overflow"],
        control["max-length-bytes"],
        control["dead-letter-exchange"],
    )
    assert "message-ttl" not in control
    assert ("reject-publish", 2**22, 7 * 86_400_000) == (
        bulk["overflow"],
        bulk["max-length-bytes"],
        bulk["message-ttl"],
    )
    assert ("drop-head", 7, 60_000) == (
        telemetry["overflow"],
        telemetry["max-length"],
        telemetry["message-ttl"],
    )


def test_a_key_that_newer_versions_refuse_is_left_out_for_them():
    def lazy_policies(document):
        return [one["name"] for one in document["policies"] if "queue-mode" in one["definition"]]

    assert ["bulk"] == lazy_policies(definitions(lazy=True))
    assert [] == lazy_policies(definitions(lazy=False))


def test_a_revoked_party_gets_nothing():
    text = str(definitions(revoked=("north",)))

    assert "north" not in text
    assert "south" in text


def test_what_a_revoked_party_left_must_go_and_nothing_else():
    found = names_in(definitions())
    gone = obsolete(roster(revoked=("north",)), found)

    assert ("north",) == gone.users
    assert ("out.north",) == gone.exchanges
    assert {name for name in found.queues if "north" in name} == set(gone.queues)


def test_users_queues_and_exchanges_that_are_not_ours_are_never_removed():
    found = Names(users=("admin", OPERATOR), exchanges=("", "amq.topic", DEAD), queues=("invoices", DEAD))

    assert Names() == obsolete(roster(revoked=("north",)), found)


def test_a_broker_that_follows_the_roster_has_nothing_obsolete():
    assert Names() == obsolete(roster(), names_in(definitions()))


@given(st.sets(st.sampled_from(["alice", "bob", "north", "south"])))
def test_after_removal_a_broker_holds_what_a_new_one_would(revoked):
    before, after = definitions(), definitions(revoked=tuple(revoked))
    gone = obsolete(roster(revoked=tuple(revoked)), names_in(before))

    for kind in ("users", "exchanges", "queues"):
        left = set(getattr(names_in(before), kind)) - set(getattr(gone, kind))
        assert set(getattr(names_in(after), kind)) == left


def test_the_operator_cannot_be_a_party_and_can_read_dead_letters_only():
    document = with_operator(definitions(), "secret")
    operator = permissions(document)[OPERATOR]

    assert not re.fullmatch(SLUG, OPERATOR)
    assert "secret" not in str(document)
    assert re.search(operator["read"], DEAD)
    for party, lane in product(ROLES, Lane):
        assert not re.search(operator["read"], Inbox(party, "north", lane).queue)
        assert not re.search(operator["write"], exchange(party))


PLACES = BrokerPlaces("127.0.0.1", 5671, 15672, 15692, Path("/tls"), Path("/d.json"), Path("/l.log"))


def settings_of(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split(" = ", 1) for line in lines)


def test_the_broker_listens_to_mutual_tls_alone():
    conf = settings_of(rabbitmq_conf(PLACES))

    assert "none" == conf["listeners.tcp"]
    assert "127.0.0.1:5671" == conf["listeners.ssl.default"]
    assert ("verify_peer", "true") == (conf["ssl_options.verify"], conf["ssl_options.fail_if_no_peer_cert"])
    assert ["EXTERNAL"] == [value for key, value in conf.items() if key.startswith("auth_mechanisms")]
    assert "127.0.0.1" == conf["management.tcp.ip"] == conf["prometheus.tcp.ip"]


def test_the_broker_takes_every_message_that_parties_may_seal():
    assert SEALED_BYTES <= MESSAGE_BYTES == int(settings_of(rabbitmq_conf(PLACES))["max_message_size"])


def test_the_plugins_are_an_erlang_term():
    assert re.fullmatch(r"\[\w+(,\w+)*\]\.\n", ENABLED_PLUGINS)


@pytest.mark.parametrize("log", [None, Path("/l.log")])
def test_the_log_is_left_to_the_system_unless_told(log):
    conf = settings_of(rabbitmq_conf(BrokerPlaces("10.0.0.1", 1, 2, 3, Path("/t"), Path("/d"), log)))

    assert (log is not None) == ("log.file" in conf)
