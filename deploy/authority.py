"""Issue the certificates of a federation: its authority's own, its parties' and its broker's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import KitError, NotAFederationError
from common.ids import PartyId
from common.security.files import read_part, write_atomic, write_private
from common.security.identity import load_private_key

CERTIFICATE: Final = "ca.pem"
KEY: Final = "ca.key"

AUTHORITY_DAYS: Final = 3650
PARTY_DAYS: Final = 397
"""A year and a month: the longest that public authorities were allowed to issue for."""

_BACKDATED: Final = timedelta(hours=1)
"""The clocks of hospitals differ."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and the private key that was made for it, both PEM."""

    certificate: x509.Certificate
    key_pem: bytes = field(repr=False)

    @property
    def cert_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate authority of a federation (X.509 v3, P-256); its key also signs rosters."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, federation: str, *, now: float) -> Authority:
        """Return a new self-signed authority that is valid for ten years from `now`, in Unix seconds."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"Warren authority of {federation}")
        certificate = (
            _builder(name, name, key.public_key(), AUTHORITY_DAYS, now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(key, SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Read what `save` wrote.

        Raises:
            NotAFederationError: If a file is missing, damaged, or of another kind.
        """
        try:
            certificate = x509.load_pem_x509_certificate(read_part(folder, CERTIFICATE))
            key = load_private_key(folder, KEY)
        except KitError as error:
            raise NotAFederationError(path=str(folder.parent), reason=error.facts["reason"]) from error
        except ValueError as error:
            raise NotAFederationError(path=str(folder.parent), reason=f"{CERTIFICATE} is damaged") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise NotAFederationError(path=str(folder.parent), reason=f"{KEY} is not on an elliptic curve")
        return cls(certificate, key)

    def save(self, folder: Path) -> None:
        """Write certificate and key into a new folder that only its owner can enter."""
        folder.mkdir(mode=0o700)
        write_private(folder / KEY, _pem(self.key))
        write_atomic(folder / CERTIFICATE, self.cert_pem)

    @property
    def cert_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_party(self, party: PartyId, *, now: float, days: float = PARTY_DAYS) -> Issued:
        """Return a client certificate whose common name, and so whose user on the broker, is the party's id."""
        return self._issue(party, days, now, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def certify(
        self, party: PartyId, key: ec.EllipticCurvePublicKey, *, now: float, days: float = PARTY_DAYS
    ) -> x509.Certificate:
        """Return a client certificate as `issue_party` does, for a key whose private half stays with the party."""
        return self._certify(party, key, days, now, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def issue_broker(
        self, federation: str, hosts: Iterable[str], *, now: float, days: float = PARTY_DAYS
    ) -> Issued:
        """Return the server certificate of a broker that is reached under these names or IP addresses.

        Its common name can be no party's id, so that the broker's key is of no use as a party's.
        """
        names = tuple(_general_name(host) for host in hosts)
        return self._issue(f"Broker of {federation}", days, now, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def _issue(
        self,
        common_name: str,
        days: float,
        now: float,
        usage: x509.ObjectIdentifier,
        names: tuple[x509.GeneralName, ...],
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        return Issued(self._certify(common_name, key.public_key(), days, now, usage, names), _pem(key))

    def _certify(
        self,
        common_name: str,
        key: ec.EllipticCurvePublicKey,
        days: float,
        now: float,
        usage: x509.ObjectIdentifier,
        names: tuple[x509.GeneralName, ...],
    ) -> x509.Certificate:
        builder = (
            _builder(_name(common_name), self.certificate.subject, key, days, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float, now: float
) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(now, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _BACKDATED)
        .not_valid_after(moment + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
