"""Keep the tasks that workers have at the moment: since when, and until when a worker may be silent."""

from __future__ import annotations

from dataclasses import dataclass

from common import metrics
from common.clock import Clock
from common.errors import WorkerDiedError, WorkerStartError
from common.ids import TaskId
from common.settings import Timeouts
from node.leaving import LossPace
from node.registry import Dataset


@dataclass(slots=True)
class Running:
    """A task that a worker has.

    Attributes:
        started_at: Unix time at which it got it, or was ready for it.
        dataset: What it is done on.
        pace: Bounds the losses that leave meanwhile.
        silent_at: When the worker counts as hung, on the monotonic clock.
        warm: Whether the worker has said that it is ready.
    """

    started_at: float
    dataset: Dataset
    pace: LossPace
    silent_at: float
    warm: bool


class Shift:
    """The running tasks. Used by the agent's thread only."""

    def __init__(self, clock: Clock, timeouts: Timeouts, *, losses_per_s: int) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._losses_per_s = losses_per_s
        self._running: dict[TaskId, Running] = {}

    def __contains__(self, task: TaskId) -> bool:
        return task in self._running

    def __len__(self) -> int:
        return len(self._running)

    @property
    def tasks(self) -> list[TaskId]:
        """Return the running tasks, the oldest first."""
        return list(self._running)

    def get(self, task: TaskId) -> Running | None:
        """Return what is known of a task, or None if no worker has it."""
        return self._running.get(task)

    def begin(self, task: TaskId, dataset: Dataset, *, warm: bool) -> None:
        """Note that a worker gets a task, and whether it has started already; it has the time to start in any case."""
        self._running[task] = Running(
            self._clock.now(),
            dataset,
            LossPace(self._losses_per_s),
            self._clock.monotonic() + self._timeouts.worker_start_s,
            warm=warm,
        )

    def ready(self, task: TaskId) -> None:
        """Note that the worker of a task has started."""
        if (running := self._running.get(task)) is not None:
            running.started_at, running.warm = self._clock.now(), True
            self.heard(task)

    def heard(self, task: TaskId) -> Running | None:
        """Note that the worker of a task is alive; return what is known of the task."""
        running = self._running.get(task)
        if running is not None:
            running.silent_at = self._clock.monotonic() + self._timeouts.progress_s
        return running

    def end(self, task: TaskId) -> bool:
        """Forget a task, and tell whether a worker had it."""
        return self._running.pop(task, None) is not None

    def due(self) -> float | None:
        """Return when the next worker counts as hung, on the monotonic clock."""
        return min((running.silent_at for running in self._running.values()), default=None)

    def hung(self) -> list[tuple[TaskId, WorkerDiedError | WorkerStartError]]:
        """Return the tasks whose workers have been silent for too long, with what that means."""
        now = self._clock.monotonic()
        return [
            (task, self._silence(running))
            for task, running in self._running.items()
            if running.silent_at <= now
        ]

    def _silence(self, running: Running) -> WorkerDiedError | WorkerStartError:
        metrics.TIMEOUTS.labels(timeout="progress_s" if running.warm else "worker_start_s").inc()
        if running.warm:
            status = f"no progress for {self._timeouts.progress_s:g} s"
            return WorkerDiedError(status=status, step="this task")
        waited = self._clock.now() - running.started_at
        return WorkerStartError(timeout_s=round(waited), reason="it never said that it is ready")
