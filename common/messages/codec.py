"""Write messages as bytes and read them back.

body = b"WRN1" | length of the JSON (4 bytes, big endian) | JSON | payload bytes, if any
"""

from __future__ import annotations

import json
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from common.errors import MalformedMessageError, MessageTooLargeError, ProtocolVersionError
from common.limits import HEADER_BYTES, MESSAGE_BYTES
from common.messages.base import PROTOCOL_VERSION
from common.messages.discovery import (
    ListReply,
    ListRequest,
    NodePresence,
    PingReply,
    PingRequest,
    RosterUpdate,
    SearchReply,
    SearchRequest,
)
from common.messages.payload import Chunk, ChunkRequest, PayloadReceipt
from common.messages.plan import PlanApprovalReply, PlanApprovalRequest, PlanStatusReply, PlanStatusRequest
from common.messages.training import RunEnd, TaskCancel, TaskFailed, TaskProgress, TrainReply, TrainRequest
from common.settings import describe

MAGIC: Final = b"WRN1"
_PREFIX: Final = len(MAGIC) + 4

AnyMessage = Annotated[
    PingRequest
    | PingReply
    | NodePresence
    | ListRequest
    | ListReply
    | SearchRequest
    | SearchReply
    | RosterUpdate
    | PlanApprovalRequest
    | PlanApprovalReply
    | PlanStatusRequest
    | PlanStatusReply
    | TrainRequest
    | TrainReply
    | TaskFailed
    | TaskProgress
    | TaskCancel
    | RunEnd
    | Chunk
    | ChunkRequest
    | PayloadReceipt,
    Field(discriminator="kind"),
]

ADAPTER: Final[TypeAdapter[AnyMessage]] = TypeAdapter(AnyMessage)


def encode(message: AnyMessage, payload: bytes | memoryview = b"") -> bytes:
    """Return the bytes of a message and of the payload that rides behind it.

    Raises:
        MessageTooLargeError: If the JSON or the whole is larger than the wire allows.
    """
    header = message.__pydantic_serializer__.to_json(message)
    if len(header) > HEADER_BYTES:
        raise MessageTooLargeError(size_bytes=len(header), limit_bytes=HEADER_BYTES)
    body = b"".join((MAGIC, len(header).to_bytes(4), header, payload))
    if len(body) > MESSAGE_BYTES:
        raise MessageTooLargeError(size_bytes=len(body), limit_bytes=MESSAGE_BYTES)
    return body


def decode(body: bytes | memoryview, *, sender: str = "an unknown party") -> tuple[AnyMessage, memoryview]:
    """Return the message in a body, and the bytes behind it without copying them.

    Args:
        body: What arrived.
        sender: Whom to name in errors.

    Raises:
        MalformedMessageError: If the body is no message; says why, without its values.
        ProtocolVersionError: If the sender speaks another version.
    """
    view = memoryview(body)
    if len(view) > MESSAGE_BYTES:
        raise MalformedMessageError(sender=sender, reason=f"{len(view)} bytes are more than {MESSAGE_BYTES}")
    if len(view) < _PREFIX or bytes(view[: len(MAGIC)]) != MAGIC:
        raise MalformedMessageError(sender=sender, reason="it does not start like one")
    length = int.from_bytes(view[len(MAGIC) : _PREFIX])
    if length > HEADER_BYTES or _PREFIX + length > len(view):
        raise MalformedMessageError(sender=sender, reason=f"its JSON cannot be {length} bytes long")
    header = bytes(view[_PREFIX : _PREFIX + length])
    try:
        message = ADAPTER.validate_json(header)
    except ValidationError as error:
        theirs = _version(header)
        if theirs != PROTOCOL_VERSION:
            raise _other_protocol(sender, theirs) from error
        raise MalformedMessageError(sender=sender, reason=describe(error)) from error
    if message.protocol != PROTOCOL_VERSION:
        raise _other_protocol(sender, _version(header))
    return message, view[_PREFIX + length :]


def _other_protocol(sender: str, theirs: str) -> ProtocolVersionError:
    """Return the error that names the side to upgrade."""
    newer = _number(theirs) > _number(PROTOCOL_VERSION)
    return ProtocolVersionError(
        sender=sender, theirs=theirs, ours=PROTOCOL_VERSION, older="this side" if newer else sender
    )


def _number(version: str) -> tuple[int, ...]:
    """Return a version for comparison; what is none is older than all."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else ()


def _version(header: bytes) -> str:
    """Return the version that a header states, as far as it can be read."""
    try:
        document = json.loads(header)
    except (ValueError, RecursionError):
        return PROTOCOL_VERSION
    stated = document.get("protocol", "none") if isinstance(document, dict) else "none"
    return stated[:20] if isinstance(stated, str) else "none"
