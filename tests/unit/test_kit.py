import hashlib
import os
import ssl
import stat
import time
import tomllib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import (
    CertificateExpiredError,
    InvalidSettingsError,
    KitError,
    KitVersionError,
    RosterError,
)
from common.ids import PartyId
from common.security.identity import SEALING, SIGNING, Identity
from common.security.kit import (
    AUTHORITY,
    CERTIFICATE,
    CONNECTION,
    KEY,
    ROSTER,
    Kit,
    _toml,
    fingerprint,
    write_roster,
)
from common.security.roster import SignedRoster, sign_roster
from common.settings import KIT_VERSION, Connection, Timeouts
from tests.support.certificates import make_authority
from tests.support.parties import make_identities, make_kit, make_roster

NOW = time.time()


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture
def folder(tmp_path, authority):
    return make_kit(tmp_path / "kit", authority)


def reason(folder, now=NOW):
    with pytest.raises(KitError) as caught:
        Kit.load(folder, now=now)
    return caught.value.facts["reason"]


def replace_private(path, content):
    path.write_bytes(content)
    path.chmod(0o600)


def test_a_written_kit_loads(folder):
    kit = Kit.load(folder, now=NOW)
    assert ("north", "node", 5671) == (kit.connection.party, kit.connection.role, kit.connection.port)
    assert kit.identity.public.signing == kit.roster.member(PartyId("north")).signing_key


def test_only_the_owner_can_enter_a_kit_or_read_its_keys(folder):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    assert {KEY: 0o600, SIGNING: 0o600, SEALING: 0o600} == {
        name: modes[name] for name in (KEY, SIGNING, SEALING)
    }
    assert {CONNECTION, AUTHORITY, CERTIFICATE, KEY, SIGNING, SEALING, ROSTER} == set(modes)


@pytest.mark.parametrize("name", [CONNECTION, AUTHORITY, CERTIFICATE, KEY, SIGNING, SEALING, ROSTER])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"{name} is missing" == reason(folder)


def test_a_folder_that_is_not_there_is_no_kit(tmp_path):
    assert "connection.toml is missing" == reason(tmp_path / "absent")


@pytest.mark.parametrize("name", [KEY, SIGNING, SEALING])
def test_a_private_key_that_others_can_read_is_refused_with_the_command_to_run(folder, name):
    (folder / name).chmod(0o644)
    assert f"{name} is open to other users; run `chmod 600 {folder / name}`" == reason(folder)


def test_a_wrong_connection_file_is_refused_with_every_mistake(folder):
    (folder / CONNECTION).write_text('party = "North"\ncolour = 1\n')
    with pytest.raises(InvalidSettingsError) as caught:
        Kit.load(folder, now=NOW)
    assert {"party", "colour", "host"} <= set(caught.value.facts["problems"].replace(":", "").split())


def test_a_newer_kit_is_refused_with_both_versions_whatever_else_it_says(folder):
    path = folder / CONNECTION
    assert path.read_text().startswith(f"version = {KIT_VERSION}\n")
    path.write_text(path.read_text().replace("version = 1", "version = 2") + 'a_new_word = "new"\n')

    with pytest.raises(KitVersionError, match="version 2, this Warren reads up to 1") as caught:
        Kit.load(folder, now=NOW)
    assert "upgrade Warren here" in caught.value.advice


def test_a_kit_from_before_versions_were_written_is_of_the_first_one(folder):
    path = folder / CONNECTION
    path.write_text(path.read_text().replace("version = 1\n", ""))

    assert 1 == Kit.load(folder, now=NOW).connection.version


@pytest.mark.parametrize("version", ["0", "true", '"2"'])
def test_a_version_that_is_none_is_a_mistake_in_the_file(folder, version):
    path = folder / CONNECTION
    path.write_text(path.read_text().replace("version = 1", f"version = {version}"))

    with pytest.raises(InvalidSettingsError, match="version"):
        Kit.load(folder, now=NOW)


@pytest.mark.parametrize("content", [b"a = " + b"[" * 10_000, b"port = " + b"9" * 10_000, b"\xff"])
def test_a_hostile_connection_file_is_refused(folder, content):
    (folder / CONNECTION).write_bytes(content)
    with pytest.raises(InvalidSettingsError):
        Kit.load(folder, now=NOW)


def test_a_certificate_of_another_party_is_refused(folder, authority):
    other = authority.issue("south")
    (folder / CERTIFICATE).write_bytes(other.cert_pem)
    replace_private(folder / KEY, other.key_pem)
    assert "cert.pem is of south, connection.toml of north" == reason(folder)


def test_a_certificate_of_another_authority_is_refused_even_with_the_same_name(folder):
    other = make_authority().issue("north")
    (folder / CERTIFICATE).write_bytes(other.cert_pem)
    replace_private(folder / KEY, other.key_pem)
    assert "cert.pem is not signed by ca.pem" == reason(folder)


def test_a_key_of_another_certificate_is_refused(folder, authority):
    replace_private(folder / KEY, authority.issue("north").key_pem)
    assert "key.pem does not match cert.pem" == reason(folder)


def test_a_reissued_certificate_that_the_roster_does_not_list_is_refused(folder, authority):
    other = authority.issue("north")
    (folder / CERTIFICATE).write_bytes(other.cert_pem)
    replace_private(folder / KEY, other.key_pem)
    assert "the certificate in cert.pem is not the one in the roster" == reason(folder)


@pytest.mark.parametrize(("name", "what"), [(SIGNING, "key in signing.pem"), (SEALING, "key in sealing.pem")])
def test_keys_that_the_roster_does_not_list_are_refused(folder, tmp_path, name, what):
    Identity.generate(PartyId("north")).save(tmp_path)
    (tmp_path / name).replace(folder / name)
    assert f"the {what} is not the one in the roster" == reason(folder)


def test_a_role_that_the_roster_does_not_give_is_refused(folder):
    path = folder / CONNECTION
    path.write_text(path.read_text().replace('"node"', '"researcher"'))
    assert "the role in connection.toml is not the one in the roster" == reason(folder)


@pytest.mark.parametrize(("listed", "revoked"), [({"south": "node"}, ()), ({"north": "node"}, ("north",))])
def test_a_party_that_is_not_in_the_roster_or_was_revoked_cannot_use_its_kit(
    folder, authority, listed, revoked
):
    write_roster(
        folder,
        sign_roster(make_roster(make_identities(listed), listed, serial=2, revoked=revoked), authority.key),
    )
    assert "north is not in its roster, or was revoked" == reason(folder)


def test_a_roster_of_another_federation_is_refused(folder, authority):
    write_roster(folder, sign_roster(make_roster(make_identities(), federation="other"), authority.key))
    with pytest.raises(RosterError, match=r"'other', connection\.toml names 'trial'"):
        Kit.load(folder, now=NOW)


def test_a_roster_that_the_authority_did_not_sign_is_refused(folder):
    write_roster(folder, sign_roster(make_roster(make_identities()), make_authority().key))
    with pytest.raises(RosterError, match="not signed"):
        Kit.load(folder, now=NOW)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"document": 1, "signature": 2}'])
def test_a_damaged_roster_file_is_refused(folder, content):
    (folder / ROSTER).write_bytes(content)
    with pytest.raises(RosterError, match="is damaged"):
        Kit.load(folder, now=NOW)


def test_an_expired_certificate_is_refused_with_its_date(tmp_path, authority):
    folder = make_kit(tmp_path / "kit", authority, days=10)
    with pytest.raises(CertificateExpiredError) as caught:
        Kit.load(folder, now=NOW + timedelta(days=11).total_seconds())
    assert "north" == caught.value.facts["party"]


def test_an_expired_authority_is_refused(tmp_path):
    folder = make_kit(tmp_path / "kit", make_authority(days=10), days=20)
    with pytest.raises(CertificateExpiredError, match="the authority of trial"):
        Kit.load(folder, now=NOW + timedelta(days=11).total_seconds())


def test_the_days_left_count_to_whichever_certificate_expires_first(tmp_path):
    kit = Kit.load(make_kit(tmp_path / "kit", make_authority(days=10), days=20), now=NOW)
    assert 10 == round(kit.days_left(NOW))
    assert -10 == round(kit.days_left(NOW + timedelta(days=20).total_seconds()))
    assert 0.0 == kit.days_left(kit.expires_at)


def test_a_stored_roster_is_there_at_the_next_start(folder):
    kit, before = Kit.load(folder, now=NOW), (folder / ROSTER).read_bytes()
    kit.store_roster(SignedRoster.model_validate_json(before))
    assert before == (folder / ROSTER).read_bytes()
    assert kit.roster == Kit.load(folder, now=NOW).roster


def test_a_crash_while_a_roster_is_stored_leaves_the_old_one(folder, monkeypatch):
    kit, before = Kit.load(folder, now=NOW), (folder / ROSTER).read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        kit.store_roster(SignedRoster(document="new", signature="new"))
    assert before == (folder / ROSTER).read_bytes()


def test_a_roster_cannot_be_stored_in_a_kit_that_is_gone(folder):
    kit = Kit.load(folder, now=NOW)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(KitError, match=r"roster\.json cannot be written"):
        kit.store_roster(SignedRoster(document="new", signature="new"))


def test_a_kit_is_not_written_over_another_one(folder, authority):
    before = (folder / KEY).read_bytes()
    with pytest.raises(KitError, match="cannot be written"):
        make_kit(folder, authority)
    assert before == (folder / KEY).read_bytes()
    assert [folder] == list(folder.parent.iterdir())


def test_a_kit_appears_whole_or_not_at_all(tmp_path, authority, monkeypatch):
    def die(self, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(Identity, "save", die)
    with pytest.raises(KeyboardInterrupt):
        make_kit(tmp_path / "kit", authority)
    assert [] == list(tmp_path.iterdir())


def test_the_fingerprint_is_that_of_openssl(authority):
    der = ssl.PEM_cert_to_DER_cert(authority.cert_pem.decode())
    assert hashlib.sha256(der).hexdigest() == fingerprint(authority.certificate)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(
    federation=TEXT,
    host=TEXT,
    server_name=TEXT,
    vhost=TEXT,
    connect_s=st.floats(0.001, 600),
    port=st.integers(1, 65535),
)
def test_any_connection_survives_its_file(federation, host, server_name, vhost, connect_s, port):
    connection = Connection(
        federation=federation,
        party=PartyId("north"),
        role="node",
        host=host,
        port=port,
        server_name=server_name,
        vhost=vhost,
        timeouts=Timeouts(connect_s=connect_s),
    )
    assert connection == Connection.model_validate(tomllib.loads(_toml(connection)))


def handshake(client_context, server_context, server_name):
    """Shake hands in memory; return the common name that the server saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=server_name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    return dict(pair[0] for pair in server.getpeercert()["subject"])["commonName"]


def server(authority, issued, tmp_path):
    (tmp_path / "server.pem").write_bytes(issued.key_pem + issued.cert_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.cert_pem.decode())
    context.load_cert_chain(tmp_path / "server.pem")
    return context


def test_client_and_broker_prove_themselves_to_each_other(folder, authority, tmp_path):
    context = Kit.load(folder, now=NOW).ssl_context()
    broker = server(authority, authority.issue("broker"), tmp_path)
    assert "north" == handshake(context, broker, "localhost")


def test_a_broker_of_another_authority_is_refused(folder, authority, tmp_path):
    context = Kit.load(folder, now=NOW).ssl_context()
    broker = server(authority, make_authority().issue("broker"), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, broker, "localhost")


def test_a_broker_of_another_name_is_refused(folder, authority, tmp_path):
    context = Kit.load(folder, now=NOW).ssl_context()
    broker = server(authority, authority.issue("broker"), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="ostname mismatch"):
        handshake(context, broker, "example.org")


def test_old_versions_of_tls_are_refused(folder):
    context = Kit.load(folder, now=NOW).ssl_context()
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)


def test_no_other_authority_is_trusted(folder):
    assert 1 == Kit.load(folder, now=NOW).ssl_context().cert_store_stats()["x509"]


def test_a_key_that_vanished_since_loading_is_a_kit_error(folder):
    kit = Kit.load(folder, now=NOW)
    (folder / KEY).unlink()
    with pytest.raises(KitError, match="TLS refuses it"):
        kit.ssl_context()
