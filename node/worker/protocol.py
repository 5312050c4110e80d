"""Define what an agent and its worker process say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue

from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.limits import HEADER_BYTES
from common.messages import Correction, GpuNotice, LossPoint, Validation
from common.messages.base import Count, Duration, Name, Part, Text
from common.messages.moments import Moments
from common.messages.payload import EncodingText, PayloadSize
from common.payload.header import Content
from common.training_args import TrainingArgs
from node.gpus import GpuOffer
from node.sandbox import Protections

ORDER_BYTES: Final = 4 * 1024 * 1024
"""Largest JSON from the agent."""

REPORT_BYTES: Final = HEADER_BYTES * 3 // 4
"""Largest JSON from the worker: what it says goes on to the researcher in one message. A worker runs the code of others, so
its agent believes no length beyond this."""

HANDED_BYTES: Final = 64 * 1024
"""Largest model, update or state that crosses the socket: an order fits the buffer of the system, so that no agent waits for a worker
that does not read yet. Others are handed over as files."""

LOSS_POINTS: Final = 1000
"""Most points in one report."""

ValidatedOn = Literal["global", "local", "personal"]
"""What a validation is of."""

Losses = Annotated[tuple[LossPoint, ...], Field(max_length=LOSS_POINTS)]


class DatasetSource(Part):
    """A data set that a task may read."""

    dataset_id: DatasetId
    data_type: Name
    path: str
    parameters: dict[str, JsonValue]


class RunSpec(Part):
    """What mostly is the same for all tasks of a run; a worker gets it again only when something of it is another."""

    experiment_id: ExperimentId
    run_id: RunId
    node_id: PartyId
    gpu: GpuOffer = "none"
    """What the node offers."""
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
    model_encoding: EncodingText = "raw"
    """How the global model is encoded."""
    encoding: EncodingText = "raw"
    """How to encode the trained one."""
    update_path: str
    """Where to write that if it is large; its folder exists, and is free for other files."""
    state_path: str
    """Where to write what a task leaves for others, if that is large; in the same folder."""
    moments: Moments | None = None
    """Of the columns of the whole federation, if it is known."""
    correction: Correction | None = None
    """What the aggregator asks for beyond plain training."""

    @property
    def measures(self) -> bool:
        """Tell whether it is about the moments of columns alone."""
        return self.training_args.moments == "federation" and self.moments is None


class TaskSpec(Part):
    """What is of one task alone."""

    task_id: TaskId
    round: Count
    seed: Count
    """Seed of the round; the worker derives the node's own stream from it."""
    updates_done: Count = 0
    """Optimisation steps of earlier rounds; with `num_updates` the stream of batches goes on behind them."""
    train: bool = True
    """False asks for validation of the given model alone."""
    model_decoded_bytes: PayloadSize | None = None
    """Size of the global model once decompressed, if it is compressed."""
    state_of: TaskId | None = None
    """The task that this one builds on."""


@dataclass(frozen=True, slots=True)
class Order:
    """Asks the worker for one task; closing the socket asks it to end.

    Attributes:
        run: What may be as it was for the task before; it is the same object then.
        task: What is not.
        model: The global model, safetensors; encoded as the run says.
        state: What the task has left that this one builds on; none if nothing is here.
    """

    run: RunSpec
    task: TaskSpec
    model: Content
    state: Content | None = None


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
    """A task is done."""

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
    update_decoded_bytes: PayloadSize | None = None
    """Size of the update before compression; none if it is not compressed."""
    moments: Moments | None = None
    """Of the columns of the training part, if these were asked for."""
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


@dataclass(frozen=True, slots=True)
class Made:
    """A task is done, and this is what it made. To the agent, which file a path names is hearsay.

    Attributes:
        done: What is told of it.
        update: The trained model, encoded as the run says; none if only validation was asked for.
        state: What it leaves for the tasks that build on it; none if it leaves nothing.
    """

    done: Done
    update: Content | None = None
    state: Content | None = None


FromWorker = Unprotected | Ready | Progress | Done | Failed
Report = Unprotected | Ready | Progress | Made | Failed
