"""List who is in a federation, signed by its authority.

A roster is the only source of public keys: a party is believed because the authority put its keys here. The signature is
ECDSA on P-256 with SHA-256 (FIPS 186-5) over a label and the roster's JSON.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import Field, ValidationError, field_validator

from common.errors import RosterError, UnknownPartyError
from common.ids import Digest, PartyId
from common.messages.base import Name, Part, UnixTime
from common.security.identity import PublicKey
from common.settings import Role, describe

DOCUMENT_CHARS: Final = 200_000
"""Largest roster document, that of a federation of about 500 parties."""

_LABEL: Final = b"warren roster 1\x00"
"""Keeps this signature apart from the certificates that the same key signs."""


class Member(Part):
    """One party of a federation."""

    party: PartyId
    role: Role
    certificate_sha256: Digest
    """SHA-256 of the party's TLS certificate in DER."""
    previous_certificate_sha256: Digest | None = None
    """That of the certificate before it was renewed, which is good until it expires."""
    keys_made_by: Literal["party", "federation"] = "federation"
    """Where its private keys were born: at the party, which never gave them away, or with the operator of the federation."""
    signing_key: PublicKey
    sealing_key: PublicKey
    added_at: UnixTime
    revoked_at: UnixTime | None = None
    """When the party was revoked; a revoked party stays listed, so that its id is never given away again."""


class Roster(Part):
    """All parties of a federation at one time."""

    federation: Name
    serial: Annotated[int, Field(ge=1, lt=2**53)]
    """Grows with each change."""
    issued_at: UnixTime
    members: tuple[Member, ...]

    @field_validator("members")
    @classmethod
    def _unique(cls, members: tuple[Member, ...]) -> tuple[Member, ...]:
        if len({member.party for member in members}) != len(members):
            raise ValueError("a party is listed twice")
        return members

    def member(self, party: PartyId) -> Member:
        """Return a party that is not revoked.

        Raises:
            UnknownPartyError: If it was never added, or was revoked.
        """
        for member in self.active():
            if member.party == party:
                return member
        raise UnknownPartyError(party=party, federation=self.federation)

    def active(self, role: Role | None = None) -> tuple[Member, ...]:
        """Return the parties that are not revoked, all or those of one role, in the order of the roster."""
        return tuple(
            member for member in self.members if member.revoked_at is None and role in (None, member.role)
        )

    def parties(self) -> tuple[tuple[PartyId, Role], ...]:
        """Return id and role of each party that is not revoked."""
        return tuple((member.party, member.role) for member in self.active())


class SignedRoster(Part):
    """A roster as it travels and is kept: not believed until `verify_roster` says so."""

    document: Annotated[str, Field(max_length=DOCUMENT_CHARS)]
    """Canonical JSON: sorted keys, no white space."""
    signature: Annotated[str, Field(max_length=1000)]
    """DER signature, base64."""


def sign_roster(roster: Roster, authority_key: ec.EllipticCurvePrivateKey) -> SignedRoster:
    """Return the roster as a document signed by the federation's authority.

    Raises:
        RosterError: If the roster has too many members for one message.
    """
    document = json.dumps(
        roster.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    if len(document) > DOCUMENT_CHARS:
        raise RosterError(reason=f"{len(document)} characters are more than {DOCUMENT_CHARS}")
    signature = authority_key.sign(_LABEL + document.encode(), ec.ECDSA(SHA256()))
    return SignedRoster(document=document, signature=base64.b64encode(signature).decode())


def verify_roster(
    document: str, signature: str, authority: x509.Certificate, *, previous: Roster | None
) -> Roster:
    """Return the roster in a document that the authority signed.

    Args:
        document: What `sign_roster` returned.
        signature: Its signature.
        authority: Certificate of the federation's authority.
        previous: The roster in use, which the new one must not be older than. None the first time.

    Raises:
        RosterError: If the signature does not hold, the document is no roster, it is of another federation than
            `previous`, it is older, or it differs under the same serial.
    """
    if len(document) > DOCUMENT_CHARS:
        raise RosterError(reason=f"{len(document)} characters are more than {DOCUMENT_CHARS}")
    try:
        key = authority.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RosterError(reason="the authority's certificate holds no readable key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RosterError(reason="the authority's key is not on an elliptic curve")
    try:
        key.verify(base64.b64decode(signature, validate=True), _LABEL + document.encode(), ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError) as error:  # ValueError: not base64, or not encodable
        raise RosterError(reason="it is not signed by the federation's authority") from error
    try:
        roster = Roster.model_validate_json(document)
    except ValidationError as error:
        raise RosterError(reason=describe(error).strip()) from error
    if previous is not None:
        _check_succession(roster, previous)
    return roster


def _check_succession(roster: Roster, previous: Roster) -> None:
    if roster.federation != previous.federation:
        raise RosterError(
            reason=f"it is of the federation {roster.federation!r}, not {previous.federation!r}"
        )
    if roster.serial < previous.serial:
        raise RosterError(reason=f"serial {roster.serial} is older than {previous.serial}")
    if roster.serial == previous.serial and roster != previous:
        raise RosterError(reason=f"it differs from the one in use under the same serial {roster.serial}")
