"""Name what a node knows of tasks, what can happen to them, and what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.errors import WarrenError, WorkerDiedError, WorkerStartError
from common.ids import Digest, ExperimentId, PartyId, RunId, TaskId


@dataclass(frozen=True, slots=True)
class Task:
    """One share of one round, as the researcher asked for it."""

    task_id: TaskId
    experiment_id: ExperimentId
    run_id: RunId
    round: int
    researcher: PartyId
    model: Digest
    deadline: float | None
    received_at: float


@dataclass(frozen=True, slots=True)
class Run:
    """The newest incarnation of an experiment that this node has heard of."""

    researcher: PartyId
    experiment_id: ExperimentId
    run_id: RunId
    ended: bool


class Phase(StrEnum):
    """How far a task has come."""

    RECEIVED = "received"
    """Its model is still arriving."""
    WAITING = "waiting"
    RUNNING = "running"
    ANSWERED = "answered"
    """Its reply is on disk and not yet with the broker."""
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task came to nothing, in words that may leave the node."""

    code: str
    text: str
    plan_line: int | None = None
    final: bool = True
    """Whether trying again is pointless."""

    @classmethod
    def of(cls, error: WarrenError) -> Failure:
        """Describe an error without anything that must stay here; only the loss of a worker is worth another try."""
        final = not isinstance(error, WorkerDiedError | WorkerStartError)
        return cls(error.code, error.public_text, final=final)


# Events: what happened.


@dataclass(frozen=True, slots=True)
class TaskReceived:
    """A request for a task came, perhaps not for the first time."""

    task: Task
    model_here: bool
    refusal: Failure | None = None
    """Why this node does not run it: not approved, no such data set, policy."""


@dataclass(frozen=True, slots=True)
class TaskRecovered:
    """The journal knew this task when the agent started."""

    task: Task
    phase: Phase
    model_here: bool


@dataclass(frozen=True, slots=True)
class RunRecovered:
    """The journal knew this as the newest run of an experiment when the agent started."""

    run: Run


@dataclass(frozen=True, slots=True)
class ModelArrived:
    """A global model is whole."""

    model: Digest


@dataclass(frozen=True, slots=True)
class ModelDamaged:
    """A global model was other bytes than announced, time after time."""

    model: Digest
    failure: Failure


@dataclass(frozen=True, slots=True)
class TaskTrained:
    """A worker has finished; its reply is in the journal."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class TaskBroke:
    """A worker could not finish."""

    task_id: TaskId
    failure: Failure


@dataclass(frozen=True, slots=True)
class ReplyConfirmed:
    """The broker has the reply on disk."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class UpdateArrived:
    """The researcher has the whole update."""

    researcher: PartyId
    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class TasksCancelled:
    """A researcher does not want these tasks any more."""

    researcher: PartyId
    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class TaskStopped:
    """The people of the node want an end of this task; what is done already still goes out."""

    task_id: TaskId
    node: PartyId


@dataclass(frozen=True, slots=True)
class WorkersAllowed:
    """From now on so many tasks may run side by side; those that run go on."""

    count: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A researcher is done with a run."""

    run: Run


Event = (
    TaskReceived
    | TaskRecovered
    | RunRecovered
    | ModelArrived
    | ModelDamaged
    | TaskTrained
    | TaskBroke
    | ReplyConfirmed
    | UpdateArrived
    | TasksCancelled
    | TaskStopped
    | RunEnded
    | WorkersAllowed
)

# Effects: what to do, in this order.


@dataclass(frozen=True, slots=True)
class Begin:
    """Give the task to a worker."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the worker that runs the task."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Refuse:
    """Journal a failure as the answer."""

    task_id: TaskId
    failure: Failure


@dataclass(frozen=True, slots=True)
class Report:
    """Publish the answer that the journal holds."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Retire:
    """Free the warm worker of a run."""

    run_id: RunId


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove request, answer and update from the journal."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class KeepRun:
    """Journal the newest run of an experiment, so that older work never runs after a restart."""

    run: Run


Effect = Begin | Abort | Refuse | Report | Retire | Forget | KeepRun
