"""Name the things of a federation with typed identifiers."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from typing import Annotated, Final, NewType

from pydantic import StringConstraints

from common.errors import InvalidPartyIdError

SLUG: Final = r"^[a-z0-9][a-z0-9-]{0,39}$"
UUID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
SHA256: Final = r"^[0-9a-f]{64}$"

PartyId = NewType("PartyId", Annotated[str, StringConstraints(pattern=SLUG)])
MessageId = NewType("MessageId", Annotated[str, StringConstraints(pattern=UUID)])
ExperimentId = NewType("ExperimentId", Annotated[str, StringConstraints(pattern=UUID)])
RunId = NewType("RunId", Annotated[str, StringConstraints(pattern=UUID)])
TaskId = NewType("TaskId", Annotated[str, StringConstraints(pattern=UUID)])
DatasetId = NewType("DatasetId", Annotated[str, StringConstraints(pattern=UUID)])
Digest = NewType("Digest", Annotated[str, StringConstraints(pattern=SHA256)])

REGISTRAR: Final = PartyId("registrar")
"""The party that speaks for the federation itself: it distributes the roster."""


def party_id(value: str) -> PartyId:
    """Return `value` as a party id.

    Raises:
        InvalidPartyIdError: If it is not a slug of 1 to 40 characters.
    """
    if not re.fullmatch(SLUG, value):
        raise InvalidPartyIdError(value=value)
    return PartyId(value)


def new_uuid() -> str:
    """Return a fresh UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (
        (milliseconds & (2**48 - 1)) << 80
        | 0x7 << 76
        | secrets.randbits(12) << 64
        | 0b10 << 62
        | secrets.randbits(62)
    )
    return _written(value)


def _written(value: int) -> str:
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def derived_uuid(*parts: str | int) -> str:
    """Return the UUIDv8 (RFC 9562, section 5.8) that SHA-256 gives for these parts, the same everywhere."""
    text = "\x1f".join(str(part) for part in parts)
    value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return _written(value)


def task_id(run: RunId, round_: int, node: PartyId, attempt: int) -> TaskId:
    """Return the id of one node's share of one round; a second attempt is another task."""
    return TaskId(derived_uuid("task", run, round_, node, attempt))
