"""Hold the two private keys of a party: one to sign, one to agree on keys."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import StringConstraints

from common.errors import KitError
from common.ids import SHA256, PartyId
from common.messages.base import Part
from common.security.files import read_part, write_private

SIGNING: Final = "signing.pem"
SEALING: Final = "sealing.pem"
PASSPHRASE_FILE: Final = "WARREN_PASSPHRASE_FILE"  # noqa: S105  a name, not a secret
"""Environment variable that names the file with the passphrase of a party's private keys."""

PublicKey = Annotated[str, StringConstraints(pattern=SHA256)]
"""A raw 32-byte public key of Ed25519 or X25519, in hexadecimal."""


class PublicKeys(Part):
    """What others need to believe a party and to write to it."""

    signing: PublicKey
    """Ed25519 (RFC 8032)."""
    sealing: PublicKey
    """X25519 (RFC 7748)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A party and its private keys; they show neither in `repr` nor in logs."""

    party: PartyId
    signing: Ed25519PrivateKey = field(repr=False)
    sealing: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, party: PartyId) -> Identity:
        """Return a party with fresh keys from the operating system's random source."""
        return cls(party, Ed25519PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def load(cls, folder: Path, party: PartyId) -> Identity:
        """Read the keys that `save` wrote.

        Raises:
            KitError: If a file is missing, damaged, of another kind, or open to other users.
        """
        signing, sealing = load_private_key(folder, SIGNING), load_private_key(folder, SEALING)
        if not isinstance(signing, Ed25519PrivateKey):
            raise KitError(path=str(folder), reason=f"{SIGNING} holds no Ed25519 key")
        if not isinstance(sealing, X25519PrivateKey):
            raise KitError(path=str(folder), reason=f"{SEALING} holds no X25519 key")
        return cls(party, signing, sealing)

    def save(self, folder: Path, *, passphrase: bytes | None = None) -> None:
        """Write both keys as PKCS 8 PEM, readable by the owner alone from the moment the files exist.

        Args:
            folder: Where.
            passphrase: Protects them; they lie open if there is none.

        Raises:
            KitError: If the folder cannot be written.
            DiskFullError: If the disk is full.
        """
        for name, key in ((SIGNING, self.signing), (SEALING, self.sealing)):
            encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
            try:
                write_private(folder / name, pem)
            except OSError as error:
                raise KitError(
                    path=str(folder), reason=f"{name} cannot be written: {error.strerror}"
                ) from error

    @property
    def public(self) -> PublicKeys:
        """Return the public halves."""
        return PublicKeys(
            signing=self.signing.public_key().public_bytes_raw().hex(),
            sealing=self.sealing.public_key().public_bytes_raw().hex(),
        )


def passphrase() -> bytes | None:
    """Return the passphrase in the file that `WARREN_PASSPHRASE_FILE` names, without the end of its line; None if it names none.

    Raises:
        KitError: If the file is missing, empty, or open to other users.
    """
    named = os.environ.get(PASSPHRASE_FILE)
    if not named:
        return None
    path = Path(named)
    secret = read_part(path.parent, path.name, private=True).rstrip(b"\r\n")
    if not secret:
        raise KitError(path=named, reason="it holds no passphrase")
    return secret


def load_private_key(folder: Path, name: str) -> PrivateKeyTypes:
    """Read a PEM private key of a kit, if need be with the passphrase in the file that `WARREN_PASSPHRASE_FILE` names.

    Raises:
        KitError: If the file is missing, damaged, or open to other users, or the passphrase is missing or wrong.
    """
    pem = read_part(folder, name, private=True)
    secret = passphrase() if b"ENCRYPTED" in pem else None
    try:
        return load_pem_private_key(pem, password=secret)
    except TypeError as error:
        raise KitError(
            path=str(folder),
            reason=f"{name} is protected by a passphrase, and {PASSPHRASE_FILE} names no file",
        ) from error
    except (
        ValueError,
        UnsupportedAlgorithm,
        InternalError,
    ) as error:  # InternalError: wrong length of an X448 key
        raise KitError(path=str(folder), reason=f"{name} holds no readable private key") from error
