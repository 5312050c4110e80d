"""Define what an agent and its worker process say to each other, and how it crosses their socket.

frame = length of the JSON (4 bytes, big endian) | JSON
"""

from __future__ import annotations

import socket
from typing import Annotated, Final, Literal, TypeVar

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from common.errors import MalformedMessageError
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import LossPoint, Validation
from common.messages.base import Count, Duration, Name, Part, Text
from common.settings import describe
from common.training_args import TrainingArgs

FRAME_BYTES: Final = 4 * 1024 * 1024
"""Largest frame; a worker runs the code of others, so its agent believes no length beyond this."""

LOSS_POINTS: Final = 1000
"""Most points in one report."""

_PREFIX: Final = 4

T = TypeVar("T")

Losses = Annotated[tuple[LossPoint, ...], Field(max_length=LOSS_POINTS)]


class DatasetSource(Part):
    """The one data set that a task may read."""

    dataset_id: DatasetId
    data_type: Name
    path: str
    parameters: dict[str, JsonValue]


class RunTask(Part):
    """Ask the worker for one task; closing the socket asks it to end."""

    kind: Literal["run_task"] = "run_task"
    task_id: TaskId
    experiment_id: ExperimentId
    run_id: RunId
    round: Count
    node_id: PartyId
    seed: Count
    """Seed of the round; the worker derives the node's own stream from it."""
    train: bool = True
    """False asks for validation of the given model alone."""
    plan_path: str
    plan_name: Name
    plan_hash: Digest
    model_args: dict[str, JsonValue]
    training_args: TrainingArgs
    dataset: DatasetSource
    model_path: str
    """The global model, safetensors."""
    update_path: str
    """Where to write the trained model; its folder exists."""


class Ready(Part):
    """The worker has imported what it needs."""

    kind: Literal["ready"] = "ready"
    torch_version: Name


class Progress(Part):
    """The losses since the last report of a task that takes long."""

    kind: Literal["progress"] = "progress"
    task_id: TaskId
    losses: Losses


class Done(Part):
    """A task is done; its update, if any, lies at the path that was asked for."""

    kind: Literal["done"] = "done"
    task_id: TaskId
    samples_seen: Count
    """Samples that took part in optimisation steps, counted each time."""
    samples_train: Count
    samples_test: Count
    losses: Losses
    """The whole curve, thinned if it is long."""
    validations: Annotated[tuple[Validation, ...], Field(max_length=2)]
    update_sha256: Digest | None
    """None if only validation was asked for."""
    update_size: Count | None
    """In bytes."""
    loaded_s: Duration
    trained_s: Duration
    validated_s: Duration
    saved_s: Duration


class Failed(Part):
    """A task came to nothing; the worker is ready for the next."""

    kind: Literal["failed"] = "failed"
    task_id: TaskId
    code: Annotated[str, Field(pattern=r"^WRN-\d{3}$")]
    text: Text
    """What may leave the node."""
    plan_line: Count | None = None
    detail: Annotated[str, Field(max_length=20_000)]
    """Traceback and message text, which may hold values of the data: for the node's own log only."""


FromWorker = Ready | Progress | Done | Failed

_TO_WORKER: Final[TypeAdapter[RunTask]] = TypeAdapter(RunTask)
_FROM_WORKER: Final[TypeAdapter[FromWorker]] = TypeAdapter(Annotated[FromWorker, Field(discriminator="kind")])


def write_frame(connection: socket.socket, message: RunTask | FromWorker) -> None:
    """Send one message, blocking until the system has taken it.

    Raises:
        OSError: If the other side is gone.
    """
    document = message.__pydantic_serializer__.to_json(message)
    connection.sendall(len(document).to_bytes(_PREFIX) + document)


def read_frame(connection: socket.socket) -> FromWorker | None:
    """Return what a worker says next, blocking until it says it; none once it is gone.

    Raises:
        MalformedMessageError: If the worker sent anything else; the stream cannot be read further.
    """
    document = _read(connection)
    return None if document is None else _decode(_FROM_WORKER, document, "the worker")


def read_order(connection: socket.socket) -> RunTask | None:
    """Return what the agent asks for next, blocking until it does; none once it is gone.

    Raises:
        MalformedMessageError: If the agent sent anything else.
    """
    document = _read(connection)
    return None if document is None else _decode(_TO_WORKER, document, "the agent")


def _decode(adapter: TypeAdapter[T], document: bytes, sender: str) -> T:
    try:
        return adapter.validate_json(document)
    except ValidationError as error:
        raise MalformedMessageError(sender=sender, reason=describe(error)) from error


def _read(connection: socket.socket) -> bytes | None:
    prefix = _exactly(connection, _PREFIX)
    if prefix is None:
        return None
    size = int.from_bytes(prefix)
    if size > FRAME_BYTES:
        raise MalformedMessageError(
            sender="the other process", reason=f"{size} bytes are more than {FRAME_BYTES}"
        )
    return _exactly(connection, size)


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
