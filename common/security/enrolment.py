"""Let keys be born where they are used: a party makes them and asks the federation to sign for them.

    party       makes keys, keeps them, hands out a *request*         request.json
    both        compare the request's fingerprint, by voice
    federation  puts certificate, authority, roster and connection into a *reply*, in which nothing is secret
    both        compare the authority's fingerprint, by voice
    party       puts its keys and the reply together: a kit

Whoever carries request or reply can change them, and then the fingerprints differ. A short fingerprint is 80 bits of a SHA-256: to
find another request with the same one takes some 2^80 tries.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from pydantic import Field, ValidationError

from common.errors import EnrolmentError, KitError
from common.ids import PartyId
from common.messages.base import Name, Part, UnixTime
from common.security.files import PART_BYTES, read_part, write_atomic, write_private
from common.security.identity import SEALING, SIGNING, Identity, PublicKeys
from common.security.kit import AUTHORITY, CERTIFICATE, CONNECTION, KEY, ROSTER, Kit

FOLDER: Final = "enrolment"
"""Where in a party's home the keys wait for the answer."""

REQUEST: Final = "request.json"
PUBLIC: Final = (CONNECTION, AUTHORITY, CERTIFICATE, ROSTER)
"""The files of a kit that are no secret."""

_LABEL: Final = b"warren enrolment 1\x00"
_SHORT_BYTES: Final = 10


class EnrolmentRequest(Part):
    """What a party asks the federation to sign."""

    federation: Name
    party: PartyId
    role: Literal["node", "researcher"]
    csr: Annotated[str, Field(max_length=PART_BYTES)]
    """Certificate signing request (RFC 2986), PEM."""
    keys: PublicKeys
    made_at: UnixTime


class SignedRequest(EnrolmentRequest):
    """A request as it travels; the signature shows that who wrote it has the signing key."""

    signature: Annotated[str, Field(max_length=1000)]
    """Ed25519 over a label and the canonical JSON of the request, base64."""


def fingerprint_of(data: bytes) -> str:
    """Return 16 letters and digits in groups of four, for two people to compare."""
    text = base64.b32encode(hashlib.sha256(data).digest()[:_SHORT_BYTES]).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def request_fingerprint(request: EnrolmentRequest) -> str:
    """Return the fingerprint of a request; the signature is no part of it."""
    return fingerprint_of(_document(request))


def authority_fingerprint(authority: x509.Certificate) -> str:
    """Return the short fingerprint of a federation's authority."""
    return fingerprint_of(authority.public_bytes(Encoding.DER))


def same_fingerprint(one: str, other: str) -> bool:
    """Tell whether two people read the same fingerprint, however they write it."""
    return _letters(one) == _letters(other)


def begin(
    folder: Path,
    party: PartyId,
    role: Literal["node", "researcher"],
    federation: str,
    *,
    now: float,
    passphrase: bytes | None = None,
) -> SignedRequest:
    """Make the keys of a party in a new folder, which only its owner can enter, and a request for them.

    Args:
        folder: Where; its parent must exist.
        party: The id that the party wants.
        role: What it wants to do.
        federation: Name of the federation.
        now: Unix time.
        passphrase: Protects the keys; they lie open if there is none.

    Raises:
        EnrolmentError: If the folder exists.
        DiskFullError: If the disk is full.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        raise EnrolmentError(path=folder, reason="an enrolment was begun there") from error
    tls, identity = ec.generate_private_key(ec.SECP256R1()), Identity.generate(party)
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    write_private(folder / KEY, tls.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    identity.save(folder, passphrase=passphrase)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, party)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(tls, SHA256())
    request = EnrolmentRequest(
        federation=federation,
        party=party,
        role=role,
        csr=csr.public_bytes(Encoding.PEM).decode(),
        keys=identity.public,
        made_at=now,
    )
    signature = base64.b64encode(identity.signing.sign(_LABEL + _document(request))).decode()
    signed = SignedRequest(**request.model_dump(), signature=signature)
    write_atomic(
        folder / REQUEST, signed.model_dump_json(indent=1).encode() + b"\n"
    )  # the last: now it is whole
    return signed


def read_request(path: Path) -> tuple[SignedRequest, ec.EllipticCurvePublicKey]:
    """Read a request and check that who wrote it has the keys in it; return it with its key for TLS.

    Raises:
        EnrolmentError: If it is damaged, or its signatures do not hold.
    """
    try:
        request = SignedRequest.model_validate_json(read_part(path.parent, path.name))
        csr = x509.load_pem_x509_csr(request.csr.encode())
        names = [part.value for part in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        key, valid = csr.public_key(), csr.is_signature_valid
        signing = Ed25519PublicKey.from_public_bytes(bytes.fromhex(request.keys.signing))
        signing.verify(base64.b64decode(request.signature, validate=True), _LABEL + _document(request))
    except KitError as error:
        raise EnrolmentError(path=path, reason=error.facts["reason"]) from error
    except InvalidSignature as error:
        raise EnrolmentError(path=path, reason="it was changed, or is not signed by its own key") from error
    except (ValidationError, ValueError, UnsupportedAlgorithm) as error:
        raise EnrolmentError(path=path, reason="it is damaged") from error
    if not valid or names != [request.party]:
        raise EnrolmentError(path=path, reason="its certificate request is not its own")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EnrolmentError(path=path, reason="its key for TLS is not on P-256")
    return request, key


def complete(folder: Path, reply: Path, kit: Path, *, now: float) -> Kit:
    """Put keys and reply together into a new kit, and check it.

    Args:
        folder: Where `begin` made the keys, or a kit with the same keys, whose certificate is to be renewed.
        reply: What the federation answered; a folder.
        kit: A folder that does not exist; removed again after a failure.
        now: Unix time that the certificates must be valid at.

    Raises:
        EnrolmentError: If no enrolment was begun, or the reply holds private keys.
        KitError: If the reply is not the answer to this request.
        CertificateExpiredError: If its certificate has expired.
        RosterError: If its roster is not its authority's.
    """
    if not (folder / KEY).is_file():
        raise EnrolmentError(path=folder, reason="no enrolment was begun there")
    if (reply / KEY).exists():
        raise EnrolmentError(path=reply, reason="it holds private keys: it is a kit, not a reply")
    kit.mkdir(mode=0o700)
    try:
        for name in (KEY, SIGNING, SEALING):
            write_private(kit / name, read_part(folder, name, private=True))
        for name in PUBLIC:
            write_atomic(kit / name, read_part(reply, name, limit_bytes=64 * PART_BYTES), mode=0o600)
        return Kit.load(kit, now=now)
    except BaseException:
        shutil.rmtree(kit)
        raise


def _document(request: EnrolmentRequest) -> bytes:
    facts = request.model_dump(mode="json", exclude={"signature"})
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode("ascii")


def _letters(text: str) -> str:
    return "".join(character for character in text.upper() if character.isalnum())
