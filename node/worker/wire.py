"""Define how what an agent and its worker process say to each other crosses their socket.

policy = lengths | JSON
order  = lengths | JSON of the run, or nothing if it is as before | JSON of the task | model | state
report = lengths | JSON | update | state

A length is 4 bytes, big endian, and there is one for each part. Model, update and states are the content itself if it is small; otherwise the
part is the path of a file, and the highest bit of its length is set. Nothing stands for none.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from common.errors import MalformedMessageError, MessageTooLargeError
from common.payload.header import Content
from common.settings import describe
from node.sandbox import SandboxPolicy
from node.worker.protocol import (
    HANDED_BYTES,
    ORDER_BYTES,
    REPORT_BYTES,
    Done,
    FromWorker,
    Made,
    Order,
    Report,
    RunSpec,
    TaskSpec,
)

T = TypeVar("T")

_PATH: Final = 1 << 31
_PATH_BYTES: Final = 4096

_POLICY: Final[TypeAdapter[SandboxPolicy]] = TypeAdapter(SandboxPolicy)
_RUN: Final[TypeAdapter[RunSpec]] = TypeAdapter(RunSpec)
_TASK: Final[TypeAdapter[TaskSpec]] = TypeAdapter(TaskSpec)
_FROM_WORKER: Final[TypeAdapter[FromWorker]] = TypeAdapter(Annotated[FromWorker, Field(discriminator="kind")])


def write_policy(connection: socket.socket, policy: SandboxPolicy) -> None:
    """Tell a worker how to shut itself in, which comes before all orders.

    Raises:
        OSError: If the worker is gone.
    """
    _write(connection, _json(policy, ORDER_BYTES))


def write_order(connection: socket.socket, order: Order, told: bytes = b"") -> bytes:
    """Send a worker what to do, blocking until the system has taken it.

    Args:
        connection: Leads to the worker.
        order: What to do.
        told: What this returned for the order before.

    Returns:
        What the worker knows of its run from now on.

    Raises:
        OSError: If the worker is gone.
    """
    run, task = _json(order.run, ORDER_BYTES), _json(order.task, ORDER_BYTES)
    news = _NOTHING if run.data == told else run
    _write(connection, news, task, _Part.of(order.model), _Part.of(order.state))
    return run.data


def write_report(connection: socket.socket, report: Report) -> None:
    """Send the agent a report, blocking until the system has taken it.

    Raises:
        MessageTooLargeError: If its JSON is larger than `REPORT_BYTES`; nothing was sent.
        OSError: If the agent is gone.
    """
    match report:
        case Made(done, update, state):
            _write(connection, _json(done, REPORT_BYTES), _Part.of(update), _Part.of(state))
        case _:
            _write(connection, _json(report, REPORT_BYTES), _NOTHING, _NOTHING)


def read_report(connection: socket.socket, admit: Callable[[int], None] = lambda _: None) -> Report | None:
    """Return what a worker says next, blocking until it says it; none once it is gone.

    Args:
        connection: Leads to the worker.
        admit: Called with the size of the JSON of each report before it is decoded; may wait.

    Raises:
        MalformedMessageError: If the worker sent anything else; the stream cannot be read further.
    """
    parts = _read(connection, REPORT_BYTES, None, None)
    if parts is None:
        return None
    document, update, state = parts
    admit(len(document.data))
    report = _decode(_FROM_WORKER, document, "the worker")
    if isinstance(report, Done):
        return Made(report, update.content, state.content)
    if update.data or state.data:
        raise MalformedMessageError(sender="the worker", reason="it hands something over and is not done")
    return report


def read_policy(connection: socket.socket) -> SandboxPolicy | None:
    """Return how to shut oneself in, which the agent says first, blocking until it does; none once it is gone.

    Raises:
        MalformedMessageError: If the agent sent anything else.
    """
    parts = _read(connection, ORDER_BYTES)
    return None if parts is None else _decode(_POLICY, parts[0], "the agent")


def read_order(connection: socket.socket, before: RunSpec | None = None) -> Order | None:
    """Return what the agent asks for next, blocking until it does; none once it is gone.

    Args:
        connection: Leads to the agent.
        before: The run of the order before.

    Raises:
        MalformedMessageError: If the agent sent anything else.
    """
    parts = _read(connection, ORDER_BYTES, ORDER_BYTES, None, None)
    if parts is None:
        return None
    run, task, model, state = parts
    spec = _decode(_RUN, run, "the agent") if run.data or before is None else before
    content = model.content
    if content is None:
        raise MalformedMessageError(sender="the agent", reason="it hands over no model")
    return Order(spec, _decode(_TASK, task, "the agent"), content, state.content)


class _Part(NamedTuple):
    data: bytes
    is_path: bool = False

    @classmethod
    def of(cls, content: Content | None) -> Self:
        if isinstance(content, Path):
            return cls(os.fsencode(content), is_path=True)
        if content is not None and len(content) > HANDED_BYTES:
            raise MessageTooLargeError(size_bytes=len(content), limit_bytes=HANDED_BYTES)
        return cls(content or b"")

    @property
    def content(self) -> Content | None:
        return Path(os.fsdecode(self.data)) if self.is_path else self.data or None

    @property
    def length(self) -> int:
        return len(self.data) | _PATH if self.is_path else len(self.data)


_NOTHING: Final = _Part(b"")


def _json(message: BaseModel, limit: int) -> _Part:
    document = message.__pydantic_serializer__.to_json(message)
    if len(document) > limit:
        raise MessageTooLargeError(size_bytes=len(document), limit_bytes=limit)
    return _Part(document)


def _decode(adapter: TypeAdapter[T], part: _Part, sender: str) -> T:
    try:
        return adapter.validate_json(part.data)
    except ValidationError as error:
        raise MalformedMessageError(sender=sender, reason=describe(error)) from error


def _write(connection: socket.socket, *parts: _Part) -> None:
    lengths = struct.pack(f">{len(parts)}I", *(part.length for part in parts))
    connection.sendall(b"".join([lengths, *(part.data for part in parts)]))


def _read(connection: socket.socket, *limits: int | None) -> list[_Part] | None:
    """Return parts, or none if the other side is gone; no limit means that a part is a content, which has its own."""
    head = _exactly(connection, 4 * len(limits))
    if head is None:
        return None
    lengths = struct.unpack(f">{len(limits)}I", head)
    sizes = [_size(length, limit) for length, limit in zip(lengths, limits, strict=True)]
    body = _exactly(connection, sum(sizes))
    if body is None:
        return None
    parts, start = [], 0
    for length, size in zip(lengths, sizes, strict=True):
        parts.append(_Part(body[start : start + size], is_path=length != size))
        start += size
    return parts


def _size(length: int, limit: int | None) -> int:
    """Return how many bytes a part has."""
    if limit is None:
        limit = _PATH_BYTES if length & _PATH else HANDED_BYTES
        length &= ~_PATH
    if length > limit:
        raise MalformedMessageError(
            sender="the other process", reason=f"{length} bytes are more than {limit}"
        )
    return length


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    """Return so many bytes, or none if the other side went away first."""
    parts = bytearray()
    while len(parts) < size:
        try:
            part = connection.recv(size - len(parts))
        except ConnectionResetError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)
