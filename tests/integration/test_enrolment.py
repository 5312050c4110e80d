"""Keys are born where they are used; two people compare fingerprints; nothing secret travels."""

import json
import os
import shutil
import time

import pytest
from typer.testing import CliRunner

from common.errors import EnrolmentError, KitError
from common.ids import PartyId
from common.security.enrolment import (
    begin,
    fingerprint_of,
    read_request,
    request_fingerprint,
    same_fingerprint,
)
from common.security.identity import PASSPHRASE_FILE
from common.security.kit import Kit
from deploy.cli import app as warren
from deploy.federation import Federation
from node.cli import app as warren_node
from node.home import NodeHome
from researcher.cli import app as warren_researcher

KEYS = ("key.pem", "signing.pem", "sealing.pem")


def called(app, *arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert code == result.exit_code, result.output
    document = json.loads(result.stdout)
    return document["error"]["code"] if code else document


@pytest.fixture
def federation(tmp_path):
    return Federation.create(tmp_path / "federation", "trial", port=5671)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "north"


def asked(home, program=warren_node, party="north", federation="trial"):
    return called(program, "enroll", home, "--id", party, "--federation", federation)


def enrolled(federation, home, program=warren_node, party="north"):
    request = asked(home, program, party)
    signed = called(
        warren,
        "federation",
        "sign",
        federation.path,
        request["request"],
        "--fingerprint",
        request["fingerprint"],
    )
    called(program, "enroll", home, "--reply", signed["reply"], "--authority", signed["authority"])
    return signed


def contents(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("program", "party"), [(warren_node, "north"), (warren_researcher, "alice")])
def test_a_party_that_makes_its_own_keys_gets_a_kit_and_no_key_ever_leaves_it(
    federation, tmp_path, program, party
):
    home = tmp_path / party
    request = asked(home, program, party)
    keys = [(home / "enrolment" / name).read_bytes() for name in KEYS]
    assert {0o600} == {(home / "enrolment" / name).stat().st_mode & 0o777 for name in KEYS}

    signed = called(
        warren,
        "federation",
        "sign",
        federation.path,
        request["request"],
        "--fingerprint",
        request["fingerprint"],
    )
    reply = tmp_path / "reply"
    shutil.copytree(signed["reply"], reply)
    called(program, "enroll", home, "--reply", reply, "--authority", signed["authority"])

    kit = Kit.load(home / "kit", now=time.time())
    assert (party, "trial") == (kit.connection.party, kit.connection.federation)
    assert keys == [(home / "kit" / name).read_bytes() for name in KEYS]
    assert not (home / "enrolment").exists()
    for folder in (federation.path, reply):
        assert not any(key in contents(folder) for key in keys)
        assert b"PRIVATE KEY" not in contents(reply)


def test_where_keys_were_made_is_shown(federation, home):
    called(warren, "federation", "add-node", federation.path, "south")
    enrolled(federation, home)

    shown = called(warren, "federation", "show", federation.path)["parties"]

    made_by = {party["party"]: party["keys_made_by"] for party in shown}
    assert {"registrar": "federation", "south": "federation", "north": "party"} == made_by
    text = CliRunner().invoke(warren, ["federation", "show", str(federation.path)]).output
    assert "made by the party" in text


def test_both_sides_see_the_same_fingerprint_and_another_one_ends_it(federation, home):
    request = asked(home)
    sign = ("federation", "sign", federation.path, request["request"], "--fingerprint")

    assert "WRN-320" == called(warren, *sign, fingerprint_of(b"another"), code=1)
    assert not (federation.path / "kits" / "north").exists()
    signed = called(warren, *sign, request["fingerprint"].lower().replace("-", " "))
    reply = ("enroll", home, "--reply", signed["reply"], "--authority")
    assert "WRN-320" == called(warren_node, *reply, fingerprint_of(b"another"), code=1)
    assert not (home / "kit").exists()
    called(warren_node, *reply, signed["authority"])


def test_asking_again_shows_the_same_request(home):
    assert asked(home) == asked(home) == called(warren_node, "enroll", home)
    assert "WRN-319" == called(warren_node, "enroll", home, "--id", "south", code=1)


def test_a_request_that_was_changed_on_the_way_is_refused(tmp_path):
    begin(tmp_path / "north", PartyId("north"), "node", "trial", now=1.0)
    begin(tmp_path / "other", PartyId("north"), "node", "trial", now=1.0)
    whole = json.loads((tmp_path / "north" / "request.json").read_text())
    other = json.loads((tmp_path / "other" / "request.json").read_text())
    for field in whole.keys() - {"federation", "made_at", "role", "party"}:
        (tmp_path / "changed.json").write_text(json.dumps(whole | {field: other[field]}))
        with pytest.raises(EnrolmentError):
            read_request(tmp_path / "changed.json")
    for field, value in {"federation": "x", "made_at": 2.0, "role": "researcher", "party": "mallory"}.items():
        (tmp_path / "changed.json").write_text(json.dumps(whole | {field: value}))
        with pytest.raises(EnrolmentError):
            read_request(tmp_path / "changed.json")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 60_000, b"x" * 100_000])
def test_a_request_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "request.json").write_bytes(content)
    with pytest.raises(EnrolmentError):
        read_request(tmp_path / "request.json")


def test_the_fingerprint_is_short_and_says_all_of_the_request(tmp_path):
    one = begin(tmp_path / "a", PartyId("north"), "node", "trial", now=1.0)
    other = one.model_copy(update={"role": "researcher"})

    assert 19 == len(request_fingerprint(one))
    assert not same_fingerprint(request_fingerprint(one), request_fingerprint(other))


def test_the_answer_to_another_request_is_refused(federation, home, tmp_path):
    signed = enrolled(federation, home)
    asked(tmp_path / "thief", party="north")

    answer = ("enroll", tmp_path / "thief", "--reply", signed["reply"], "--authority", signed["authority"])

    assert "WRN-301" == called(warren_node, *answer, code=1)
    assert not (tmp_path / "thief" / "kit").exists()


def test_a_reply_for_another_federation_or_role_or_a_revoked_id_is_not_given(federation, home, tmp_path):
    elsewhere = asked(home, federation="elsewhere")
    sign = ("federation", "sign", federation.path)
    assert "WRN-319" == called(
        warren, *sign, elsewhere["request"], "--fingerprint", elsewhere["fingerprint"], code=1
    )
    federation.add("alice", "researcher")
    node = asked(tmp_path / "alice", party="alice")
    assert "WRN-319" == called(warren, *sign, node["request"], "--fingerprint", node["fingerprint"], code=1)
    federation.revoke("alice")
    again = asked(tmp_path / "again", warren_researcher, "alice")
    assert "WRN-305" == called(warren, *sign, again["request"], "--fingerprint", again["fingerprint"], code=1)


def test_a_kit_with_ready_keys_is_no_reply(federation, home):
    asked(home)
    kit = federation.add("south", "node")
    assert "WRN-319" == called(warren_node, "enroll", home, "--reply", kit, code=1)


# Rotation


def test_a_renewed_certificate_and_the_one_before_are_both_good(federation, home):
    enrolled(federation, home)
    before = Kit.load(home / "kit", now=time.time())

    renewed = called(warren, "federation", "renew", federation.path, "north", "--days", "800")
    shutil.copy(
        federation.path / "kits" / "north" / "roster.json", home / "kit" / "roster.json"
    )  # as it is announced
    assert before.certificate == Kit.load(home / "kit", now=time.time()).certificate
    called(warren_node, "enroll", home, "--reply", renewed["reply"])

    after = Kit.load(home / "kit", now=time.time())
    assert after.days_left(time.time()) > before.days_left(time.time()) + 300
    assert before.identity.public == after.identity.public
    actions = [record["action"] for record in called(warren_node, "audit", "show", home)]
    assert ["log_begun", "kit_installed", "kit_installed"] == actions


def test_a_kit_with_ready_keys_can_be_renewed_too(federation, tmp_path):
    called(warren_researcher, "init", tmp_path / "lab", "--kit", federation.add("alice", "researcher"))

    renewed = called(warren, "federation", "renew", federation.path, "alice", "--days", "800")
    called(warren_researcher, "init", tmp_path / "lab", "--kit", renewed["reply"])

    assert Kit.load(tmp_path / "lab" / "kit", now=time.time()).days_left(time.time()) > 790


def test_a_party_gets_new_keys_and_the_old_ones_are_of_no_use_any_more(federation, home, tmp_path):
    enrolled(federation, home)
    shutil.copytree(home / "kit", tmp_path / "stolen")
    before = Kit.load(home / "kit", now=time.time())

    enrolled(federation, home)

    after = Kit.load(home / "kit", now=time.time())
    assert before.identity.public != after.identity.public
    shutil.copy(home / "kit" / "roster.json", tmp_path / "stolen" / "roster.json")
    with pytest.raises(KitError):
        Kit.load(tmp_path / "stolen", now=time.time())


# Passphrases


@pytest.fixture
def secret(tmp_path, monkeypatch):
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_FILE, str(path))
    return path


def test_private_keys_can_be_protected_by_a_passphrase(federation, home, secret, monkeypatch):
    enrolled(federation, home)

    assert all(b"ENCRYPTED" in (home / "kit" / name).read_bytes() for name in KEYS)
    assert NodeHome.open(home).kit().ssl_context()
    monkeypatch.delenv(PASSPHRASE_FILE)
    with pytest.raises(KitError, match="protected by a passphrase"):
        NodeHome.open(home).kit()


def test_a_wrong_or_open_passphrase_file_is_refused(federation, home, secret):
    enrolled(federation, home)
    secret.write_text("wrong\n")
    with pytest.raises(KitError):
        NodeHome.open(home).kit()
    secret.chmod(0o644)
    with pytest.raises(KitError, match="open to other users"):
        NodeHome.open(home).kit()
    os.truncate(secret, 0)
    secret.chmod(0o600)
    with pytest.raises(KitError, match="holds no passphrase"):
        NodeHome.open(home).kit()
