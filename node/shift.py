"""Keep the tasks that workers have at the moment, how many may run, and until when a worker may be silent."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from math import inf

from common import metrics
from common.clock import Clock
from common.errors import WorkerDiedError, WorkerStartError
from common.ids import TaskId
from common.settings import Timeouts
from node.curve import Curve
from node.hours import WorkingHours
from node.leaving import LossPace
from node.policy import Policy
from node.registry import Dataset

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Running:
    """A task that a worker has.

    Attributes:
        started_at: Unix time at which it got it, or was ready for it.
        dataset: What it is done on.
        pace: Bounds the losses that leave meanwhile.
        silent_at: When the worker counts as hung, on the monotonic clock.
        warm: Whether the worker has said that it is ready.
        curve: Its losses until now.
    """

    started_at: float
    dataset: Dataset
    pace: LossPace
    silent_at: float
    warm: bool
    curve: Curve = field(default_factory=Curve)


class Shift:
    """The running tasks. Used by the agent's thread only."""

    def __init__(self, clock: Clock, timeouts: Timeouts, policy: Policy) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._policy = policy
        self._hours = WorkingHours(policy.working_hours)
        self._places: int | None = None
        self._change_at = 0.0
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
            LossPace(self._policy.losses_per_s),
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

    def places(self) -> int | None:
        """Return how many tasks may run side by side from now on, if that has changed since the last call."""
        now = self._clock.now()
        if now < self._change_at:
            return None
        self._change_at = self._hours.changes_at(now) or inf
        before, self._places = self._places, self._policy.max_workers if self._hours.open(now) else 0
        if self._places == before:
            return None
        if self._policy.working_hours is not None:
            log.info("working hours", extra={"action": "working_hours", "working": self._places > 0})
        return self._places

    def due(self) -> float | None:
        """Return when the next worker counts as hung, or the working hours change, on the monotonic clock."""
        moments = [running.silent_at for running in self._running.values()]
        if self._change_at != inf:
            moments.append(self._clock.monotonic() + max(0.0, self._change_at - self._clock.now()))
        return min(moments, default=None)

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
