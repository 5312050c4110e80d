"""Ask nodes to train, and tell what came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from common.ids import DatasetId, Digest, PartyId, TaskId
from common.messages.base import Count, Duration, ExperimentMessage, Name, Part, TaskMessage, Text, UnixTime
from common.messages.moments import Moments
from common.messages.payload import EncodingText, PayloadManifest
from common.messages.plan import PlanSource
from common.messages.statistics import Statistics
from common.training_args import TrainingArgs

GpuNotice = Literal["gpu_not_offered", "gpu_not_found"]
"""Why a task that was to be done on a GPU was done on the CPU: the node offers none, or its worker sees none."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class TaskState(StrEnum):
    """How far a task has come at its node."""

    RECEIVED = "received"
    WAITING = "waiting"
    RUNNING = "running"
    TRAINED = "trained"
    UPLOADING = "uploading"
    REPORTED = "reported"
    FORGOTTEN = "forgotten"


class Assignment(Part):
    """One node's share of a round."""

    node: PartyId
    task_id: TaskId
    dataset_id: DatasetId
    state_of: TaskId | None = None
    """The node's last task that counts in this experiment: what the node kept of that is what this one begins with."""
    updates_done: Count = 0
    """Optimisation steps that rounds by `num_updates` asked of this node, as far as its updates count; training goes on behind them."""


class ScaffoldCorrection(Part):
    """Add c - c_i to each gradient and keep c_i (Karimireddy et al., ICML 2020, option II); c comes beside the model."""

    kind: Literal["scaffold"] = "scaffold"


class FedDynCorrection(Part):
    """Subtract h_i from each gradient, pull towards the global model and keep h_i (Acar et al., ICLR 2021)."""

    kind: Literal["feddyn"] = "feddyn"
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)]


Correction = Annotated[ScaffoldCorrection | FedDynCorrection, Field(discriminator="kind")]
"""What nodes are to do to their gradients, and to keep for the next round."""


class TrainRequest(ExperimentMessage):
    """Ask every assigned node for its share of a round; one message for all of them, stored once by the broker."""

    kind: Literal["train_request"] = "train_request"
    round: Count
    assignments: Annotated[tuple[Assignment, ...], Field(min_length=1, max_length=2000)]
    plan_name: Name
    plan_hash: Digest
    source: PlanSource
    model_args: dict[str, JsonValue]
    training_args: TrainingArgs
    train: bool = True
    """False asks for validation of the given model alone."""
    seed: Count
    """Seed of this round; each node derives its own stream from it and its id."""
    model: PayloadManifest
    """The global model to start from."""
    encoding: EncodingText = "raw"
    """How updates are to be encoded."""
    correction: Correction | None = None
    """What the aggregator asks of the nodes beyond plain training."""
    moments: Moments | None = None
    """Of the whole federation, if the training arguments want these and they are known."""

    @property
    def measures(self) -> bool:
        """Tell whether nodes are asked for the moments of their columns, and for nothing else."""
        return self.training_args.moments == "federation" and self.moments is None

    @model_validator(mode="after")
    def _measures_alone(self) -> TrainRequest:
        if self.measures and self.train:
            raise ValueError("nobody trains before the moments of the federation are known")
        return self


class LossPoint(Part):
    """The training loss at one moment."""

    iteration: Count
    """Optimisation steps done in this task."""
    epoch: Count
    samples: Count
    """Samples seen in this task."""
    loss: Finite | None
    """Mean over the batches since the last point; none if it is not finite."""


class Validation(Part):
    """Metrics of one model on the test part of one data set."""

    on: Literal["global", "local", "personal"]
    """The model received, before training, the one trained here, or one that never leaves the node."""
    samples: Count
    metrics: dict[Name, Finite | None]
    statistics: Statistics | None = None
    """Counts and sums that add up over nodes; none if the plan tests in its own way, or the node keeps them."""

    @property
    def samples_fit(self) -> bool:
        """Tell whether the statistics can be of these samples, each of which may have several cases, as an image has pixels."""
        cases = 0 if self.statistics is None else self.statistics.cases
        return cases % self.samples == 0 if self.samples else cases == 0


class TaskTimings(Part):
    """When and how long, in seconds, each step of a task took at its node."""

    received_at: UnixTime
    waited_s: Duration
    """From being journalled to being given to a worker; starting the worker is part of it."""
    loaded_s: Duration
    """Plan, data and model."""
    trained_s: Duration
    validated_s: Duration
    saved_s: Duration
    """Writing and hashing the update."""


class TrainReply(TaskMessage):
    """One node's update, and what it was made from."""

    kind: Literal["train_reply"] = "train_reply"
    dataset_id: DatasetId
    plan_hash: Digest
    base: Digest
    """The global model that training started from."""
    update: PayloadManifest | None
    """The trained parameters; none if only validation was asked for."""
    samples_seen: Count
    """Samples that took part in optimisation steps, counted each time."""
    samples_train: Count
    samples_test: Count
    steps: Count = 0
    """Optimisation steps; 0 if the plan does not count them."""
    lr_sum: Finite | None = None
    """Sum of the learning rates of these steps; none if the optimizer has several at a time, or none."""
    losses: Annotated[tuple[LossPoint, ...], Field(max_length=1000)]
    validations: Annotated[tuple[Validation, ...], Field(max_length=3)] = ()
    timings: TaskTimings
    device: Literal["cpu", "gpu"] = "cpu"
    """Where it was done."""
    notice: GpuNotice | None = None
    moments: Moments | None = None
    """Of the columns of the training part, if these were asked for."""


class TaskFailed(TaskMessage):
    """A task came to nothing; says why, without any value of the data."""

    kind: Literal["task_failed"] = "task_failed"
    code: Annotated[str, Field(pattern=r"^WRN-\d{3}$")]
    text: Text
    plan_line: Count | None = None
    final: bool
    """Whether trying again is pointless: refused, not approved, expired, cancelled."""


class TaskProgress(TaskMessage):
    """Tell while it happens how far a task has come; may be lost."""

    kind: Literal["task_progress"] = "task_progress"
    state: TaskState
    losses: Annotated[tuple[LossPoint, ...], Field(max_length=1000)] = ()


class TaskCancel(ExperimentMessage):
    """Stop these tasks of a run, running or not."""

    kind: Literal["task_cancel"] = "task_cancel"
    tasks: Annotated[tuple[TaskId, ...], Field(min_length=1, max_length=2000)]


class RunEnd(ExperimentMessage):
    """Stop whatever is left of a run and free its worker; nothing of it will be asked for again."""

    kind: Literal["run_end"] = "run_end"
    reason: Text = ""
