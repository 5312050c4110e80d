"""Read and write kits: the folder that makes a program a party of a federation.

connection.toml   where the broker is and who this party is
ca.pem            certificate of the federation's authority
cert.pem          TLS certificate of this party; its common name is the party's id
key.pem           its private key (0600)
signing.pem       private key that signs messages (0600)
sealing.pem       private key that opens messages (0600)
roster.json       the latest roster, with its signature
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from common.errors import CertificateExpiredError, KitError, RosterError, UnknownPartyError
from common.ids import Digest
from common.security.files import read_part, sync_folder, write_atomic, write_private
from common.security.identity import SEALING, SIGNING, Identity, load_private_key, passphrase
from common.security.roster import DOCUMENT_CHARS, Roster, SignedRoster, verify_roster
from common.settings import Connection, describe, load_toml

CONNECTION: Final = "connection.toml"
AUTHORITY: Final = "ca.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
ROSTER: Final = "roster.json"

_DAY_S: Final = 86400.0
_ROSTER_BYTES: Final = 8 * DOCUMENT_CHARS


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit that was read and found consistent."""

    path: Path
    connection: Connection
    authority: x509.Certificate
    certificate: x509.Certificate
    identity: Identity
    roster: Roster
    """The roster at the time of loading."""

    @classmethod
    def load(cls, path: Path, *, now: float) -> Kit:
        """Read a kit and check that all of it belongs together.

        Args:
            path: Its folder.
            now: Unix time that the certificates must be valid at.

        Raises:
            KitError: If a file is missing, damaged or open to other users, or if two files contradict each other.
            InvalidSettingsError: If `connection.toml` is not valid.
            KitVersionError: If a newer Warren made it.
            CertificateExpiredError: If the certificate of the party or of the authority has expired.
            RosterError: If the authority did not sign the roster, or it is of another federation.
        """
        read_part(path, CONNECTION)  # refuses one that is missing or huge
        connection = load_toml(path / CONNECTION, Connection)
        authority, certificate = _certificate(path, AUTHORITY), _certificate(path, CERTIFICATE)
        _check_certificate(path, connection, authority, certificate)
        _check_expiry(f"the authority of {connection.federation}", authority, now)
        _check_expiry(connection.party, certificate, now)
        identity = Identity.load(path, connection.party)
        roster = _load_roster(path, connection, authority)
        _check_membership(path, connection, certificate, identity, roster)
        return cls(path, connection, authority, certificate, identity, roster)

    @property
    def expires_at(self) -> float:
        """Return the Unix time at which the kit stops working."""
        return min(
            self.certificate.not_valid_after_utc.timestamp(), self.authority.not_valid_after_utc.timestamp()
        )

    def days_left(self, now: float) -> float:
        """Return the days from `now` until the kit stops working, negative afterwards."""
        return (self.expires_at - now) / _DAY_S

    def ssl_context(self) -> ssl.SSLContext:
        """Return the client side of mutual TLS with the broker, at least TLS 1.2.

        Only the federation's authority is trusted, and the broker's certificate must carry `connection.server_name`,
        which the caller passes as `server_hostname`.

        Raises:
            KitError: If certificate or key cannot be read any more.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=self.authority.public_bytes(Encoding.DER))
            context.load_cert_chain(self.path / CERTIFICATE, self.path / KEY, passphrase() or b"")
        except (ssl.SSLError, OSError) as error:
            raise KitError(path=str(self.path), reason=f"TLS refuses it: {error.strerror}") from error
        return context

    def store_roster(self, signed: SignedRoster) -> None:
        """Keep a roster, which the caller has verified, for the next start; whole or not at all.

        Raises:
            KitError: If the folder cannot be written.
            DiskFullError: If the disk is full.
        """
        write_roster(self.path, signed)


def fingerprint(certificate: x509.Certificate) -> Digest:
    """Return the SHA-256 of a certificate in DER, as rosters list it."""
    return Digest(certificate.fingerprint(SHA256()).hex())


def write_roster(folder: Path, signed: SignedRoster) -> None:
    """Put a roster into a kit in place of the one that is there; whole or not at all.

    Raises:
        KitError: If the folder cannot be written.
        DiskFullError: If the disk is full.
    """
    try:
        write_atomic(folder / ROSTER, signed.model_dump_json().encode())
    except OSError as error:
        raise KitError(path=str(folder), reason=f"{ROSTER} cannot be written: {error.strerror}") from error


def write_kit(
    folder: Path,
    connection: Connection,
    ca_pem: bytes,
    cert_pem: bytes,
    key_pem: bytes,
    identity: Identity,
    signed_roster: SignedRoster,
) -> None:
    """Write a new kit that only its owner can enter; it appears whole or not at all.

    Args:
        folder: Where; must not exist or must be empty. Its parent must exist.
        connection: Who the party is and where the broker is.
        ca_pem: Certificate of the authority.
        cert_pem: Certificate of the party.
        key_pem: Its private key, not encrypted.
        identity: The party's keys for messages.
        signed_roster: The roster that the kit starts with.

    Raises:
        KitError: If the folder is not empty or cannot be written.
        DiskFullError: If the disk is full.
    """
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        temporary.mkdir(mode=0o700)
        try:
            write_public(temporary, connection, ca_pem, cert_pem, signed_roster)
            write_private(temporary / KEY, key_pem)
            identity.save(temporary)
            temporary.replace(folder)
        except BaseException:
            shutil.rmtree(temporary)
            raise
        sync_folder(folder.parent)
    except OSError as error:
        raise KitError(path=str(folder), reason=f"it cannot be written: {error.strerror}") from error


def write_public(
    folder: Path, connection: Connection, ca_pem: bytes, cert_pem: bytes, signed_roster: SignedRoster
) -> None:
    """Write what is no secret of a kit into an existing folder: all that the federation gives to a party that has its own keys.

    Raises:
        OSError: If the folder cannot be written.
        DiskFullError: If the disk is full.
    """
    write_atomic(folder / CONNECTION, _toml(connection).encode())
    write_atomic(folder / AUTHORITY, ca_pem)
    write_atomic(folder / CERTIFICATE, cert_pem)
    write_roster(folder, signed_roster)


def install_kit(source: Path, target: Path) -> None:
    """Copy a kit, readable by the owner only; the old one stays in use until the new one is whole."""
    fresh, old = target.with_name("kit.new"), target.with_name("kit.old")
    for left_over in (fresh, old):
        if left_over.exists():
            shutil.rmtree(left_over)
    shutil.copytree(source, fresh, copy_function=shutil.copyfile)
    for folder, _, files in os.walk(fresh):
        Path(folder).chmod(0o700)
        for name in files:
            (Path(folder) / name).chmod(0o600)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    if old.exists():
        shutil.rmtree(old)


def _certificate(folder: Path, name: str) -> x509.Certificate:
    pem = read_part(folder, name)
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise KitError(path=str(folder), reason=f"{name} holds no readable certificate") from error


def _check_certificate(
    folder: Path, connection: Connection, authority: x509.Certificate, certificate: x509.Certificate
) -> None:
    """Refuse a certificate that is not this party's, not signed by the authority, or not matched by its key."""
    key = load_private_key(folder, KEY)
    try:
        names = [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        public = certificate.public_key()
        certificate.verify_directly_issued_by(authority)
        matches = _der(key.public_key()) == _der(public)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise KitError(path=str(folder), reason=f"{CERTIFICATE} is not signed by {AUTHORITY}") from error
    if names != [connection.party]:
        raise KitError(
            path=str(folder),
            reason=f"{CERTIFICATE} is of {', '.join(names) or 'nobody'}, {CONNECTION} of {connection.party}",
        )
    if not matches:
        raise KitError(path=str(folder), reason=f"{KEY} does not match {CERTIFICATE}")


def _der(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_expiry(party: str, certificate: x509.Certificate, now: float) -> None:
    expires = certificate.not_valid_after_utc
    if now > expires.timestamp():
        raise CertificateExpiredError(party=party, expired=expires.strftime("%Y-%m-%d %H:%M UTC"))


def _load_roster(folder: Path, connection: Connection, authority: x509.Certificate) -> Roster:
    try:
        signed = SignedRoster.model_validate_json(read_part(folder, ROSTER, limit_bytes=_ROSTER_BYTES))
    except ValidationError as error:
        raise RosterError(reason=f"{folder / ROSTER} is damaged: {describe(error).strip()}") from error
    roster = verify_roster(signed.document, signed.signature, authority, previous=None)
    if roster.federation != connection.federation:
        raise RosterError(
            reason=f"it is of the federation {roster.federation!r}, {CONNECTION} names {connection.federation!r}"
        )
    return roster


def _check_membership(
    folder: Path, connection: Connection, certificate: x509.Certificate, identity: Identity, roster: Roster
) -> None:
    """Refuse a kit whose party the roster does not know under exactly this role, certificate and keys."""
    try:
        member = roster.member(connection.party)
    except UnknownPartyError as error:
        raise KitError(
            path=str(folder), reason=f"{connection.party} is not in its roster, or was revoked"
        ) from error
    public, own = identity.public, fingerprint(certificate)
    facts = {
        f"role in {CONNECTION}": (member.role, connection.role),
        # A renewed certificate and the one before it are both good: the new one may still be on its way.
        f"certificate in {CERTIFICATE}": (
            own if own == member.previous_certificate_sha256 else member.certificate_sha256,
            own,
        ),
        f"key in {SIGNING}": (member.signing_key, public.signing),
        f"key in {SEALING}": (member.sealing_key, public.sealing),
    }
    for what, (listed, found) in facts.items():
        if listed != found:
            raise KitError(path=str(folder), reason=f"the {what} is not the one in the roster")


def _toml(connection: Connection) -> str:
    """Return the connection as TOML: its version first, and without the settings that have their default."""
    document = {"version": connection.version} | connection.model_dump(mode="json", exclude_defaults=True)
    timeouts = document.pop("timeouts", {})
    lines = [f"{key} = {_toml_value(value)}" for key, value in document.items()]
    if timeouts:
        lines += ["", "[timeouts]", *(f"{key} = {_toml_value(value)}" for key, value in timeouts.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: str | float) -> str:
    # A JSON string is a TOML string, except that TOML forbids a bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
