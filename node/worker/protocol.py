"""Define what an agent and its worker process say to each other, and how it crosses their socket.

frame = length of the JSON (4 bytes, big endian) | JSON
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from common.errors import MalformedMessageError, MessageTooLargeError
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.limits import HEADER_BYTES
from common.messages import Correction, GpuNotice, LossPoint, Validation
from common.messages.base import Count, Duration, Name, Part, Text
from common.messages.moments import Moments
from common.messages.payload import EncodingText, PayloadSize
from common.settings import describe
from common.training_args import TrainingArgs
from node.gpus import GpuOffer
from node.sandbox import Protections, SandboxPolicy

ORDER_BYTES: Final = 4 * 1024 * 1024
"""Largest frame from the agent."""

REPORT_BYTES: Final = HEADER_BYTES * 3 // 4
"""Largest frame from the worker: what it says goes on to the researcher in one message. A worker runs the code of others, so
its agent believes no length beyond this."""

LOSS_POINTS: Final = 1000
"""Most points in one report."""

_PREFIX: Final = 4

T = TypeVar("T")

ValidatedOn = Literal["global", "local", "personal"]
"""What a validation is of."""

Losses = Annotated[tuple[LossPoint, ...], Field(max_length=LOSS_POINTS)]


class DatasetSource(Part):
    """A data set that a task may read."""

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
    updates_done: Count = 0
    """Optimisation steps of earlier rounds; with `num_updates` the stream of batches goes on behind them."""
    gpu: GpuOffer = "none"
    """What the node offers."""
    train: bool = True
    """False asks for validation of the given model alone."""
    plan_path: str
    plan_name: Name
    plan_hash: Digest
    model_args: dict[str, JsonValue]
    training_args: TrainingArgs
    dataset: DatasetSource
    test_dataset: DatasetSource | None = None
    """Another one to validate on; none takes a part of the first."""
    joined_dataset: DatasetSource | None = None
    """Another one that is joined to the first."""
    model_path: str
    """The global model, safetensors."""
    model_encoding: EncodingText = "raw"
    """How it is encoded."""
    model_decoded_bytes: PayloadSize | None = None
    """Its size once decompressed, if it is compressed."""
    update_path: str
    """Where to write the trained model; its folder exists, and is free for other files."""
    encoding: EncodingText = "raw"
    """How to encode it."""
    moments: Moments | None = None
    """Of the columns of the whole federation, if it is known."""
    correction: Correction | None = None
    """What the aggregator asks for beyond plain training."""
    state_of: TaskId | None = None
    """The task that this one builds on."""
    state_path: str | None = None
    """What that one has left; none if nothing is here."""
    state_to: str
    """Where to write what this one leaves, if it leaves anything; in the folder of the update."""

    @property
    def measures(self) -> bool:
        """Tell whether it is about the moments of columns alone."""
        return self.training_args.moments == "federation" and self.moments is None


class Unprotected(Part):
    """A compulsory protection does not stand; the worker has ended."""

    kind: Literal["unprotected"] = "unprotected"
    protection: Name
    reason: Text
    advice: Text


class Ready(Part):
    """The worker is shut in and has imported what it needs."""

    kind: Literal["ready"] = "ready"
    torch_version: Name
    stands: Protections
    """The walls around it."""


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
    steps: Count = 0
    """Optimisation steps."""
    lr_sum: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Sum of their learning rates; none if there is none that all parameters share."""
    losses: Losses
    """The whole curve, thinned if it is long."""
    validations: Annotated[tuple[Validation, ...], Field(max_length=3)]
    update_sha256: Digest | None
    """None if only validation was asked for."""
    update_size: Count | None
    """In bytes."""
    update_decoded_bytes: PayloadSize | None = None
    """In bytes, before compression; none if it is not compressed."""
    moments: Moments | None = None
    """Of the columns of the training part, if these were asked for."""
    keeps_state: bool = False
    """Whether it left something for the tasks that build on it."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where it was done."""
    gpu_bytes: Count | None = None
    """Most memory that torch had of the GPU at a time; none if it was not done on one."""
    notice: GpuNotice | None = None
    """Why not on a GPU."""
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


FromWorker = Unprotected | Ready | Progress | Done | Failed

_POLICY: Final[TypeAdapter[SandboxPolicy]] = TypeAdapter(SandboxPolicy)
_TO_WORKER: Final[TypeAdapter[RunTask]] = TypeAdapter(RunTask)
_FROM_WORKER: Final[TypeAdapter[FromWorker]] = TypeAdapter(Annotated[FromWorker, Field(discriminator="kind")])


def write_order(connection: socket.socket, order: SandboxPolicy | RunTask) -> None:
    """Send a worker what to do, blocking until the system has taken it: first how to shut itself in, then task after task.

    Raises:
        OSError: If the worker is gone.
    """
    _write(connection, order, ORDER_BYTES)


def write_report(connection: socket.socket, report: FromWorker) -> None:
    """Send the agent a report, blocking until the system has taken it.

    Raises:
        MessageTooLargeError: If it is larger than `REPORT_BYTES`; nothing was sent.
        OSError: If the agent is gone.
    """
    _write(connection, report, REPORT_BYTES)


def read_report(
    connection: socket.socket, admit: Callable[[int], None] = lambda _: None
) -> FromWorker | None:
    """Return what a worker says next, blocking until it says it; none once it is gone.

    Args:
        connection: Leads to the worker.
        admit: Called with the size of each report before it is decoded; may wait.

    Raises:
        MalformedMessageError: If the worker sent anything else; the stream cannot be read further.
    """
    document = _read(connection, REPORT_BYTES)
    if document is None:
        return None
    admit(len(document))
    return _decode(_FROM_WORKER, document, "the worker")


def read_policy(connection: socket.socket) -> SandboxPolicy | None:
    """Return how to shut oneself in, which the agent says first, blocking until it does; none once it is gone.

    Raises:
        MalformedMessageError: If the agent sent anything else.
    """
    document = _read(connection, ORDER_BYTES)
    return None if document is None else _decode(_POLICY, document, "the agent")


def read_order(connection: socket.socket) -> RunTask | None:
    """Return the task that the agent asks for next, blocking until it does; none once it is gone.

    Raises:
        MalformedMessageError: If the agent sent anything else.
    """
    document = _read(connection, ORDER_BYTES)
    return None if document is None else _decode(_TO_WORKER, document, "the agent")


def _decode(adapter: TypeAdapter[T], document: bytes, sender: str) -> T:
    try:
        return adapter.validate_json(document)
    except ValidationError as error:
        raise MalformedMessageError(sender=sender, reason=describe(error)) from error


def _write(connection: socket.socket, message: BaseModel, limit: int) -> None:
    document = message.__pydantic_serializer__.to_json(message)
    if len(document) > limit:
        raise MessageTooLargeError(size_bytes=len(document), limit_bytes=limit)
    connection.sendall(len(document).to_bytes(_PREFIX) + document)


def _read(connection: socket.socket, limit: int) -> bytes | None:
    prefix = _exactly(connection, _PREFIX)
    if prefix is None:
        return None
    size = int.from_bytes(prefix)
    if size > limit:
        raise MalformedMessageError(sender="the other process", reason=f"{size} bytes are more than {limit}")
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
