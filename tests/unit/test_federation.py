"""A federation in a folder: certificates, kits, and the roster that every change signs anew."""

import json
import socket
import ssl
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.clock import ManualClock
from common.errors import (
    CertificateExpiredError,
    FederationExistsError,
    InvalidPartyIdError,
    InvalidSettingsError,
    NotAFederationError,
    PartyExistsError,
    PortTakenError,
    RosterError,
    UnknownPartyError,
)
from common.ids import REGISTRAR, PartyId
from common.security.kit import Kit, fingerprint
from common.security.roster import verify_roster
from deploy import federation as module
from deploy.authority import PARTY_DAYS, Authority
from deploy.federation import Federation
from deploy.ports import Reservation, free_port

NORTH = PartyId("north")


@pytest.fixture
def federation(tmp_path):
    return Federation.create(tmp_path / "heart", "heart", host="broker.example.org", port=5671)


def kit_of(federation, party):
    return Kit.load(federation.kit(PartyId(party)), now=time.time())


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def test_a_new_federation_has_its_registrar_and_nobody_else(federation):
    assert [(REGISTRAR, "registrar")] == list(federation.roster.parties())
    assert REGISTRAR == kit_of(federation, REGISTRAR).connection.party


def test_a_kit_is_complete_and_knows_where_the_broker_is(federation):
    federation.add("north", "node")
    kit = kit_of(federation, "north")

    assert "node" == kit.connection.role
    assert ("broker.example.org", 5671, "broker.example.org", "heart") == (
        kit.connection.host,
        kit.connection.port,
        kit.connection.server_name,
        kit.connection.vhost,
    )
    assert federation.roster == kit.roster
    assert isinstance(kit.ssl_context(), ssl.SSLContext)


def test_a_party_certificate_names_the_party_and_is_good_for_clients_only(federation):
    federation.add("north", "node")
    certificate = kit_of(federation, "north").certificate

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert ["north"] == [name.value for name in names]
    usage = extension(certificate, x509.ExtendedKeyUsage)
    assert [ExtendedKeyUsageOID.CLIENT_AUTH] == list(usage.value)
    assert not extension(certificate, x509.BasicConstraints).value.ca
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert PARTY_DAYS == lifetime.days


def test_the_broker_certificate_carries_its_names_and_is_good_for_servers_only(tmp_path):
    names = ["10.1.2.3", "broker.local"]
    federation = Federation.create(tmp_path / "f", "heart", host="broker.example.org", server_names=names)
    certificate = x509.load_pem_x509_certificate((federation.path / "broker/server.pem").read_bytes())

    found = extension(certificate, x509.SubjectAlternativeName).value
    assert ["broker.example.org", "broker.local"] == found.get_values_for_type(x509.DNSName)
    assert ["10.1.2.3"] == [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    usage = extension(certificate, x509.ExtendedKeyUsage).value
    assert [ExtendedKeyUsageOID.SERVER_AUTH] == list(usage)


def test_the_authority_signs_certificates_but_no_further_authorities(federation):
    constraints = extension(federation.authority.certificate, x509.BasicConstraints)

    assert constraints.critical
    assert (True, 0) == (constraints.value.ca, constraints.value.path_length)


def test_private_keys_are_readable_by_their_owner_only(federation):
    federation.add("north", "node")
    keys = [path for path in federation.path.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]

    assert {"ca.key", "server.key", "key.pem", "signing.pem", "sealing.pem"} == {path.name for path in keys}
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in keys}


def test_each_change_raises_the_serial_and_reaches_the_kits_that_are_here(federation):
    federation.add("north", "node")
    before = federation.roster.serial
    federation.add("alice", "researcher")

    assert before + 1 == federation.roster.serial
    assert federation.roster == kit_of(federation, "north").roster
    verified = verify_roster(
        federation.signed_roster.document,
        federation.signed_roster.signature,
        federation.authority.certificate,
        previous=None,
    )
    assert federation.roster == verified


def test_a_kit_that_was_handed_over_is_not_missed(federation):
    federation.add("north", "node")
    federation.kit(NORTH).rename(federation.path.parent / "handed over")

    federation.add("south", "node")

    assert not federation.kit(NORTH).exists()


def test_a_loaded_federation_is_the_one_that_was_made(federation):
    federation.add("north", "node")
    loaded = Federation.load(federation.path)

    assert federation.settings == loaded.settings
    assert federation.roster == loaded.roster
    assert federation.fingerprint() == loaded.fingerprint()


def test_a_revoked_party_stays_listed_but_is_no_member(federation):
    federation.add("north", "node")
    federation.revoke("north")

    assert [REGISTRAR] == [member.party for member in federation.members()]
    revoked = federation.roster.members[-1]
    assert ("north", True) == (revoked.party, revoked.revoked_at is not None)
    with pytest.raises(PartyExistsError):
        federation.add("north", "node")


@pytest.mark.parametrize("party", ["south", "registrar"])
def test_only_members_other_than_the_registrar_can_be_revoked(federation, party):
    serial = federation.roster.serial
    with pytest.raises(UnknownPartyError):
        federation.revoke(party)

    assert serial == Federation.load(federation.path).roster.serial


def test_a_party_cannot_be_revoked_twice(federation):
    federation.add("north", "node")
    federation.revoke("north")
    with pytest.raises(UnknownPartyError):
        federation.revoke("north")


@pytest.mark.parametrize("party", ["", "North", "a" * 41, "a.b", "../x", "_operator", "-a"])
def test_an_id_that_is_no_slug_is_refused_before_anything_is_written(federation, party):
    before = sorted(federation.path.rglob("*"))
    with pytest.raises(InvalidPartyIdError):
        federation.add(party, "node")

    assert before == sorted(federation.path.rglob("*"))


def test_two_processes_that_change_it_see_each_others_changes(federation):
    other = Federation.load(federation.path)
    federation.add("north", "node")
    other.add("south", "node")

    assert {REGISTRAR, "north", "south"} == {member.party for member in other.members()}
    assert other.roster == Federation.load(federation.path).roster
    with pytest.raises(PartyExistsError):
        federation.add("south", "node")


@pytest.mark.parametrize("crash_at", ["write_kit", "sign_roster", "write_atomic", "write_roster"])
def test_a_crash_in_the_middle_of_an_addition_leaves_a_federation_that_goes_on(
    federation, crash_at, monkeypatch
):
    class PowerCutError(Exception):
        pass

    def cut(*_args, **_options):
        raise PowerCutError

    before = federation.roster
    with monkeypatch.context() as patched:
        patched.setattr(module, crash_at, cut)
        with pytest.raises(PowerCutError):
            federation.add("north", "node")

    again = Federation.load(federation.path)
    if crash_at != "write_roster":  # which comes after the change is made
        assert before == again.roster
        again.add("north", "node")
    again.add("south", "node")
    assert {REGISTRAR, "north", "south"} == {member.party for member in again.members()}
    assert again.roster == kit_of(again, "north").roster


def test_a_cut_short_creation_can_be_repeated(tmp_path, monkeypatch):
    class PowerCutError(Exception):
        pass

    def cut(_settings):
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(module, "_toml", cut)
        with pytest.raises(PowerCutError):
            Federation.create(tmp_path / "f", "heart")
    with pytest.raises(NotAFederationError):
        Federation.load(tmp_path / "f")

    assert "heart" == Federation.create(tmp_path / "f", "heart").name


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FederationExistsError):
        Federation.create(tmp_path, "heart")

    assert [tmp_path / "thesis.txt"] == list(tmp_path.iterdir())


def test_a_federation_is_never_made_over_another(federation):
    with pytest.raises(FederationExistsError):
        Federation.create(federation.path, "heart")


@pytest.mark.parametrize("name", ["", "Heart", "a b", "x" * 41])
def test_a_bad_name_is_refused_and_nothing_is_written(tmp_path, name):
    with pytest.raises(InvalidSettingsError):
        Federation.create(tmp_path / "f", name)

    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("part", ["federation.toml", "roster.json", "ca/ca.pem", "ca/ca.key"])
def test_a_missing_file_is_named(federation, part):
    (federation.path / part).unlink()
    with pytest.raises(NotAFederationError, match=Path(part).name):
        Federation.load(federation.path)


def test_a_roster_that_somebody_edited_is_refused(federation):
    path = federation.path / "roster.json"
    signed = json.loads(path.read_text())
    path.write_text(json.dumps(signed | {"document": signed["document"].replace("registrar", "mallory")}))
    with pytest.raises(RosterError):
        Federation.load(federation.path)


def test_certificates_begin_a_little_early_and_end_when_told(tmp_path):
    clock = ManualClock()
    federation = Federation.create(tmp_path / "f", "heart", clock=clock)
    kit = federation.add("north", "node", days=2)

    assert clock.now() == federation.roster.member(NORTH).added_at
    Kit.load(kit, now=clock.now() - 1800)
    Kit.load(kit, now=clock.now() + 1.9 * 86400)
    with pytest.raises(CertificateExpiredError):
        Kit.load(kit, now=clock.now() + 2.1 * 86400)


def test_two_federations_can_share_an_authority(tmp_path, federation):
    other = Federation.create(tmp_path / "lung", "lung", authority=federation.authority)

    assert federation.fingerprint() == other.fingerprint()
    assert "lung" == kit_of(other, REGISTRAR).roster.federation


def test_the_roster_lists_the_certificate_of_each_party(federation):
    federation.add("north", "node")

    assert federation.roster.member(NORTH).certificate_sha256 == fingerprint(
        kit_of(federation, "north").certificate
    )


def test_an_authority_survives_being_written_and_read(tmp_path):
    made = Authority.create("heart", now=time.time())
    made.save(tmp_path / "ca")

    assert made.certificate == Authority.load(tmp_path / "ca").certificate


def test_a_reserved_port_is_refused_to_other_programs_until_it_is_let_go():
    port = free_port()
    with Reservation() as mine:
        mine.take(port)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def test_a_port_that_a_server_listens_on_is_refused():
    with Reservation() as mine, Reservation() as other:
        port = mine.take_any()
        mine._held[0].listen()
        with pytest.raises(PortTakenError, match=str(port)):
            other.take(port)
