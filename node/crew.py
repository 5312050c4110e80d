"""Have tasks done by workers: give them out, hear what comes of them, and give up on what hangs or may not go on.

What becomes of a task is told as an event for the machine in `node.tasks`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

from common.clock import Clock
from common.errors import (
    DataFileGoneError,
    DiskFullError,
    ProtectionMissingError,
    WarrenError,
    WorkerDiedError,
)
from common.ids import RunId, TaskId
from common.mailbox import Mailbox
from common.messages import TrainRequest
from common.settings import Timeouts
from node.answers import Answers
from node.dataset import Dataset
from node.figures import TASK_RETRIES, note_losses
from node.journal import Journal
from node.leaving import told
from node.orders import order
from node.policy import Policy
from node.replies import progress as task_progress
from node.shift import Running, Shift
from node.stock import Stock
from node.task_events import Failure, Task, TaskBroke, TaskTrained, WorkersAllowed
from node.worker.harvest import Harvest
from node.worker.pool import Worker, WorkerEnded, WorkerEvent, WorkerPool
from node.worker.protocol import Done, Failed, Progress, Ready, Unprotected

log = logging.getLogger(__name__)

ATTEMPTS: Final = 10
"""How often a task is begun before the node gives up on it. Each begin beyond the first follows a death of the agent or a full disk:
mostly not the fault of the task, yet one that takes its machine down with it must end some day."""


class Crew:
    """The workers of a node and the tasks that they have. Used by the agent's thread only, inside a transaction of the journal."""

    def __init__(
        self,
        mailbox: Mailbox,
        journal: Journal,
        stock: Stock,
        answers: Answers,
        pool: WorkerPool,
        policy: Policy,
        *,
        later: Callable[[Callable[[], object]], None],
        clock: Clock,
        timeouts: Timeouts,
    ) -> None:
        """Wire the parts together.

        Args:
            mailbox: Where progress is told.
            journal: What survives.
            stock: Models and states to start from.
            answers: Takes what workers made.
            pool: The workers.
            policy: How much is done at a time, and when.
            later: Takes what must wait until the journal has the transaction.
            clock: Tells the time.
            timeouts: When a worker counts as hung.
        """
        self._mailbox = mailbox
        self._journal = journal
        self._stock = stock
        self._answers = answers
        self._pool = pool
        self._policy = policy
        self._later = later
        self._clock = clock
        self._shift = Shift(clock, timeouts, policy)

    def begin(self, task: Task, request: TrainRequest, dataset: Dataset) -> Failure | None:
        """Give a task to a worker, or return why it is given up: it was begun too often."""
        begun = self._journal.begin(task.task_id)
        TASK_RETRIES.inc(begun > 1)
        if begun > ATTEMPTS:
            return Failure.of(WorkerDiedError(status=f"the agent, {ATTEMPTS} times", step="this task"))
        warm = self._pool.is_warm(task.run_id)
        running = self._shift.begin(task, request, dataset, warm=warm)
        self._later(lambda: self._give(running))
        return None

    def end(self, task_id: TaskId) -> None:
        """Wait for a task no longer, if a worker has it."""
        self._shift.end(task_id)

    def abort(self, task: Task) -> None:
        """End a task together with its worker."""
        self._shift.end(task.task_id)
        self.retire(task.run_id)

    def retire(self, run_id: RunId) -> None:
        """Free the worker of a run."""
        self._later(lambda: self._pool.retire(run_id))

    def take(self, event: WorkerEvent) -> TaskTrained | TaskBroke | None:
        """Take note of what a worker said, and return what that means for its task.

        Raises:
            DiskFullError: If the disk was too full for the task; the agent waits for space, and then the task is done again.
        """
        if not self._pool.heard(event):
            return None
        if isinstance(event, WorkerEnded):
            log.error("worker died", extra={"action": "worker_died", "error": str(event.error)})
            return None if event.task_id is None else TaskBroke(event.task_id, Failure.of(event.error))
        match event.report:
            case Ready():
                if event.worker.task_id is not None:
                    self._shift.ready(event.worker.task_id)
                return None
            case Progress() as progress:
                self._progress(progress)
                return None
            case Done() as done:
                return self._done(done, event.harvest or Harvest())
            case Unprotected() as report:
                return self._unprotected(event.worker, report)
            case Failed() as report:
                return self._failed(report)

    def data_changed(self, dataset: Dataset) -> Iterator[TaskBroke]:
        """Give up the tasks that are at work on a data set whose files are not what they were."""
        for running in self._shift.running:
            if dataset.path in running.dataset.paths:
                yield self._give_up(running, DataFileGoneError(name=dataset.name, what="has changed"))

    def due(self) -> float | None:
        """Return when `tick` must be called next, on the monotonic clock."""
        return self._shift.due()

    def keep_hours(self) -> Iterator[WorkersAllowed]:
        """Tell how many tasks may run side by side from now on, if that has changed."""
        if (places := self._shift.places()) is not None:
            yield WorkersAllowed(places)

    def tick(self) -> Iterator[WorkersAllowed | TaskBroke]:
        """Keep the working hours; give up on workers that were silent for too long, and on all if they leave too little disk."""
        yield from self.keep_hours()
        for running, silence in self._shift.hung():
            yield self._give_up(running, silence)
        if self._shift and self._pool.free_bytes < self._policy.disk_floor_bytes:
            for running in self._shift.running:
                yield self._give_up(running, DiskFullError(path=self._pool.work))

    def _give(self, running: Running) -> None:
        task, request = running.task, running.request
        if self._shift.get(task.task_id) is not running:
            return  # its run ended in the same step
        folder = self._pool.folder(task.run_id, *running.dataset.paths)
        spec = order(
            *(task, request, running.dataset),
            node=self._mailbox.party,
            folder=folder,
            stock=self._stock,
            gpu=self._policy.gpu,
        )
        if not self._pool.is_warm(task.run_id):
            self._mailbox.send(task_progress(self._mailbox.party, request, task.task_id))
        self._pool.give(task.run_id, spec)

    def _give_up(self, running: Running, error: WarrenError) -> TaskBroke:
        """End a task together with its worker, and say why."""
        task_id = running.task.task_id
        log.error("task stopped", extra={"action": "task_stopped", "task": task_id, "error": str(error)})
        self.abort(running.task)
        return TaskBroke(task_id, Failure.of(error))

    def _progress(self, progress: Progress) -> None:
        running = self._shift.heard(progress.task_id)
        if running is not None and (losses := running.pace.admitted(progress.losses)):
            task_id = running.task.task_id
            note_losses(running.task.experiment_id, losses)
            if (curve := running.curve.drawn(losses, self._clock.monotonic())) is not None:
                self._journal.note_losses(task_id, curve)
            self._mailbox.send(task_progress(self._mailbox.party, running.request, task_id, losses))

    def _done(self, done: Done, made: Harvest) -> TaskTrained | TaskBroke | None:
        running = self._shift.get(done.task_id)
        if running is None:
            return None
        if isinstance(made.error, DiskFullError):
            raise made.error
        if (problem := self._answers.problem(running, done, made)) is not None:
            return self._give_up(running, problem)
        self._shift.end(done.task_id)
        self._answers.trained(running, done, made)
        return TaskTrained(done.task_id)

    def _failed(self, report: Failed) -> TaskBroke | None:
        """End a task that its worker could not do; the worker lives on."""
        if report.code == DiskFullError.code:
            raise DiskFullError(path=self._pool.work)
        log.error(
            "task failed",
            extra={
                "action": "task_failed",
                "task": report.task_id,
                "code": report.code,
                "detail": report.detail,
            },
        )
        running = self._shift.get(report.task_id)
        if running is None:
            return None
        return TaskBroke(report.task_id, told(report, running.request, running.dataset))

    def _unprotected(self, worker: Worker, report: Unprotected) -> TaskBroke | None:
        """End the task of a worker that did not start because a compulsory protection is missing."""
        error = ProtectionMissingError(
            protection=report.protection, reason=report.reason, advice=report.advice
        )
        log.error(
            "worker unprotected",
            extra={"action": "worker_unprotected", "error": str(error), "remedy": error.advice},
        )
        if worker.task_id is None or not self._shift.end(worker.task_id):
            return None
        return TaskBroke(worker.task_id, Failure.of(error))
