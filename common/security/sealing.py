"""Seal messages: encrypted for their recipients, signed by their sender.

Layout, numbers big endian:

    b"WRS1"            4    magic and version of this layout
    signature         64    Ed25519, over everything below and over what both sides know already
    salt              32    random
    nonce             12    random
    count              2    recipients, 1 to 2000
    count times:
        length         1    of the id
        party id       1 to 40 bytes
        wrapped key   48    content key and tag
    ciphertext        body and a tag of 16

Construction. The body is encrypted with AES-256-GCM (NIST SP 800-38D) under a random content key that is used for this
one message. The content key is wrapped for each recipient with AES-256-GCM under a key that HKDF-SHA256 (RFC 5869)
derives from the X25519 secret of the pair (RFC 7748), the salt, and a label with federation, lane, sender and recipient.
Each key so encrypts once, hence no (key, nonce) pair comes twice. The signature (Ed25519, RFC 8032) is over a label and
the SHA-256 of federation, lane, sender and all bytes after the signature, and is checked before anything is decrypted.

On the bulk lane the signature covers the tag of the body in place of the whole ciphertext, which saves the hash of every byte,
half of the cost. Nobody without the content key can make another ciphertext with this tag. Another recipient of the same
chunk has the key, and could, if the broker let it write in the sender's name; so a chunk alone is never believed: what
counts is the SHA-256 of the whole payload, which a message on the control lane names, and that one is signed in full.
Nothing but chunks is taken from the bulk lane.

So a sealed message opens only in its federation, on its lane, as from its sender, at a party in its list. Another party
that re-signs it as its own fails too, because the wrapped keys are bound to the pair.

What it does not do: a message that is delivered twice opens twice (message ids deal with that); who writes to whom and
how much is visible; whoever gets a party's sealing key can open what was recorded before (no forward secrecy); a sender
can give its recipients different texts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import MessageTooLargeError, RosterError, UnauthenticMessageError, UnknownPartyError
from common.ids import PartyId
from common.limits import MESSAGE_BYTES
from common.security.identity import Identity
from common.security.roster import Member, Roster
from common.transport.topology import Lane

MAGIC: Final = b"WRS1"
RECIPIENTS: Final = 2000
"""Recipients of one message at most, as in the messages themselves."""

_SIGNATURE: Final = 64
_SALT: Final = 32
_NONCE: Final = 12
_KEY: Final = 32
_TAG: Final = 16
_WRAPPED: Final = _KEY + _TAG
_SIGNED_FROM: Final = len(MAGIC) + _SIGNATURE
_HEAD: Final = _SIGNED_FROM + _SALT + _NONCE + 2

SEALED_BYTES: Final = _HEAD + RECIPIENTS * (1 + 40 + _WRAPPED) + MESSAGE_BYTES + _TAG
"""Largest sealed message."""

_SIGN_LABEL: Final = b"warren seal 1 signature\x00"
_WRAP_LABEL: Final = b"warren seal 1 content key\x00"


class Sealer:
    """Seals what one party sends and opens what it receives. Thread-safe."""

    def __init__(self, identity: Identity, roster: Roster) -> None:
        self._identity = identity
        self._peers = _Peers(identity, roster)

    @property
    def roster(self) -> Roster:
        """Return the roster in use."""
        return self._peers.roster

    @property
    def listed(self) -> bool:
        """Tell whether the roster lists this party under the keys that it has here."""
        own = self._identity.public
        return any(
            (member.party, member.signing_key, member.sealing_key)
            == (self._identity.party, own.signing, own.sealing)
            for member in self._peers.roster.active()
        )

    def update(self, roster: Roster) -> None:
        """Use another roster, which the caller has verified, from the next call on."""
        self._peers = _Peers(self._identity, roster)

    def seal(self, lane: Lane, recipients: Sequence[PartyId], body: bytes | memoryview) -> bytes:
        """Return the body encrypted for `recipients` and signed by this party.

        Args:
            lane: The lane that the message will travel on.
            recipients: 1 to 2000 parties; a repeated one counts once.
            body: At most `MESSAGE_BYTES`.

        Raises:
            UnknownPartyError: If a recipient is not in the roster or was revoked.
            RosterError: If the sealing key of a recipient is not usable.
            MessageTooLargeError: If the body is too large.
            ValueError: If there are no recipients, or too many.
        """
        unique = tuple(dict.fromkeys(recipients))
        if not 1 <= len(unique) <= RECIPIENTS:
            raise ValueError(f"a message has 1 to {RECIPIENTS} recipients, not {len(unique)}")
        if len(body) > MESSAGE_BYTES:
            raise MessageTooLargeError(size_bytes=len(body), limit_bytes=MESSAGE_BYTES)
        peers, sender = self._peers, self._identity.party
        chance = os.urandom(_KEY + _SALT + _NONCE)
        content_key, salt, nonce = chance[:_KEY], chance[_KEY:-_NONCE], chance[-_NONCE:]
        parts = [salt, nonce, len(unique).to_bytes(2)]
        for recipient in unique:
            wrapping_key = peers.wrapping_key(recipient, salt, lane, sender=sender, recipient=recipient)
            name = recipient.encode()
            parts += (bytes((len(name),)), name, AESGCM(wrapping_key).encrypt(nonce, content_key, None))
        ciphertext = AESGCM(content_key).encrypt(nonce, body, None)
        signed = _signed(peers.federation, lane, sender, b"".join(parts), ciphertext)
        return b"".join((MAGIC, self._identity.signing.sign(signed), *parts, ciphertext))

    def open(self, lane: Lane, sender: PartyId, sealed: bytes | memoryview) -> bytes:
        """Return the body of a message that `sender` sealed for this party and this lane.

        Args:
            lane: The lane that it came on.
            sender: The party whose queue it came through.
            sealed: Whatever arrived.

        Raises:
            UnauthenticMessageError: If it cannot be believed or read, for whatever reason. Nothing else is raised.
        """
        try:
            return self._open(lane, sender, memoryview(sealed))
        except _Refusal as refusal:
            raise UnauthenticMessageError(sender=sender, lane=lane, reason=str(refusal)) from refusal

    def _open(self, lane: Lane, sender: PartyId, sealed: memoryview) -> bytes:
        peers, me = self._peers, self._identity.party
        if len(sealed) > SEALED_BYTES:
            raise _Refusal(f"{len(sealed)} bytes are more than {SEALED_BYTES}")
        if sender == me:
            raise _Refusal("it is said to come from this party itself")
        wrapped, ciphertext = _parse(sealed, me)
        head = sealed[_SIGNED_FROM : len(sealed) - len(ciphertext)]
        salt, nonce = bytes(head[:_SALT]), bytes(head[_SALT : _SALT + _NONCE])
        try:
            key = peers.signing_key(sender)
            signed = _signed(peers.federation, lane, sender, head, ciphertext)
            key.verify(bytes(sealed[len(MAGIC) : _SIGNED_FROM]), signed)
            wrapping_key = peers.wrapping_key(sender, salt, lane, sender=sender, recipient=me)
            content_key = AESGCM(wrapping_key).decrypt(nonce, wrapped, None)
            return AESGCM(content_key).decrypt(nonce, ciphertext, None)
        except UnknownPartyError as error:
            raise _Refusal(f"the sender is not in roster {peers.roster.serial}, or was revoked") from error
        except InvalidSignature as error:
            raise _Refusal("its signature does not hold for this sender, lane and federation") from error
        except InvalidTag as error:
            raise _Refusal("it does not decrypt") from error
        except RosterError as error:
            raise _Refusal("the sealing key of the sender is not usable") from error


class _Refusal(Exception):  # noqa: N818 - never leaves this module
    """Why a message is refused."""


class _Peers:
    """One roster and what follows from it for one party; replaced as a whole, so that threads never see half of it."""

    def __init__(self, identity: Identity, roster: Roster) -> None:
        self.roster = roster
        self.federation = roster.federation.encode()
        self._own = identity.sealing
        self._members = {member.party: member for member in roster.active()}
        self._secrets: dict[PartyId, bytes] = {}
        self._keys: dict[PartyId, Ed25519PublicKey] = {}

    def signing_key(self, party: PartyId) -> Ed25519PublicKey:
        key = self._keys.get(party)
        if key is None:  # as below
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self._member(party).signing_key))
            self._keys[party] = key
        return key

    def wrapping_key(
        self, peer: PartyId, salt: bytes, lane: Lane, *, sender: PartyId, recipient: PartyId
    ) -> bytes:
        """Return the key under which the content key of one message travels between this party and `peer`."""
        info = _WRAP_LABEL + _fields(self.federation, lane.encode(), sender.encode(), recipient.encode())
        return HKDF(SHA256(), _KEY, salt, info).derive(self._secret(peer))

    def _secret(self, peer: PartyId) -> bytes:
        secret = self._secrets.get(peer)
        if secret is None:  # two threads may both compute it: the result is the same
            key = X25519PublicKey.from_public_bytes(bytes.fromhex(self._member(peer).sealing_key))
            try:
                secret = self._own.exchange(key)
            except ValueError as error:  # the all-zero secret of RFC 7748, section 6.1
                raise RosterError(reason=f"the sealing key of {peer} is not usable") from error
            self._secrets[peer] = secret
        return secret

    def _member(self, party: PartyId) -> Member:
        member = self._members.get(party)
        if member is None:
            raise UnknownPartyError(party=party, federation=self.roster.federation)
        return member


def addressees(sealed: bytes | memoryview) -> tuple[str, ...]:
    """Return the ids that a sealed message gives as its recipients; anybody can read them, and nothing says that they are true.

    Raises:
        ValueError: If it is not a sealed message.
    """
    try:
        names, _ = _envelope(memoryview(sealed))
        return tuple(str(name, "ascii") for name in names)
    except _Refusal as refusal:
        raise ValueError(str(refusal)) from refusal


def _parse(sealed: memoryview, me: PartyId) -> tuple[bytes, memoryview]:
    """Return the wrapped key that is meant for `me`, and the ciphertext."""
    wrapped, ciphertext = _envelope(sealed)
    mine = wrapped.get(me.encode())
    if mine is None:
        raise _Refusal("it was sealed for others")
    return mine, ciphertext


def _envelope(sealed: memoryview) -> tuple[dict[bytes, bytes], memoryview]:
    """Return the wrapped key of each recipient, and the ciphertext."""
    if len(sealed) < _HEAD or bytes(sealed[: len(MAGIC)]) != MAGIC:
        raise _Refusal("it is not a sealed message")
    count = int.from_bytes(sealed[_HEAD - 2 : _HEAD])
    if not 1 <= count <= RECIPIENTS:
        raise _Refusal(f"it cannot have {count} recipients")
    wrapped, at = {}, _HEAD
    for _ in range(count):
        if at >= len(sealed):
            raise _Refusal("it is cut off")
        end = at + 1 + sealed[at]
        wrapped[bytes(sealed[at + 1 : end])] = bytes(sealed[end : end + _WRAPPED])
        at = end + _WRAPPED
    if at + _TAG > len(sealed):
        raise _Refusal("it is cut off")
    return wrapped, sealed[at:]


def _signed(
    federation: bytes, lane: Lane, sender: PartyId, head: bytes | memoryview, ciphertext: bytes | memoryview
) -> bytes:
    """Return what the sender signs."""
    digest = hashlib.sha256(_fields(federation, lane.encode(), sender.encode()))
    digest.update(head)
    digest.update(ciphertext[-_TAG:] if lane is Lane.BULK else ciphertext)
    return _SIGN_LABEL + digest.digest()


def _fields(*values: bytes) -> bytes:
    """Return the values with their lengths before them, so that no two lists look the same."""
    return b"".join(len(value).to_bytes(4) + value for value in values)
