"""Do the work that researchers ask for: journal it, run it, report it, whatever dies on the way.

What the machine in `node.tasks` decides is performed here. Every method runs inside one transaction of the journal; what must
wait until that is on disk (acks, publishes, workers) is put into `after_commit`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Final

from common.audit.record import Action, Entry
from common.clock import Clock
from common.errors import (
    DataFileGoneError,
    DigestMismatchError,
    DiskFullError,
    ProtectionMissingError,
    TaskSupersededError,
    WarrenError,
    WorkerDiedError,
)
from common.ids import Digest, TaskId
from common.mailbox import Mail, Mailbox
from common.messages import (
    Chunk,
    PayloadReceipt,
    RunEnd,
    TaskCancel,
    TaskState,
    TrainRequest,
)
from common.payload.store import PayloadStore
from common.settings import Timeouts
from node.admission import STALE_AFTER_S, Admission
from node.answers import Answers
from node.arrivals import Arrivals
from node.audit import run_entry, task_entry
from node.figures import TASK_RETRIES, count_task, note_losses
from node.journal import Journal
from node.leaving import told
from node.orders import order
from node.outbox import Outbox, ReplyPublished
from node.policy import Policy
from node.registry import Dataset
from node.replies import failed, share
from node.replies import progress as task_progress
from node.shift import Shift
from node.stock import Stock
from node.task_events import (
    Abort,
    Begin,
    Event,
    Failure,
    Forget,
    KeepRun,
    ModelArrived,
    ModelDamaged,
    Phase,
    Refuse,
    ReplyConfirmed,
    Report,
    Retire,
    Run,
    RunEnded,
    RunRecovered,
    Task,
    TaskBroke,
    TaskReceived,
    TaskRecovered,
    TasksCancelled,
    TaskStopped,
    TaskTrained,
    UpdateArrived,
    WorkersAllowed,
)
from node.tasks import TaskMachine
from node.worker.harvest import Harvest
from node.worker.pool import Worker, WorkerEnded, WorkerEvent, WorkerPool
from node.worker.protocol import Done, Failed, Progress, Ready, Unprotected

log = logging.getLogger(__name__)

ATTEMPTS: Final = 10
"""How often a task is begun before the node gives up on it. Each begin beyond the first follows a death of the agent or a full disk:
mostly not the fault of the task, yet one that takes its machine down with it must end some day."""

_BEAT_SHARE: Final = 0.1
"""Open tasks are told of every tenth of the silence after which a researcher takes them for stuck."""

_STATES: Final = {
    Phase.RECEIVED: TaskState.RECEIVED,
    Phase.WAITING: TaskState.WAITING,
    Phase.RUNNING: TaskState.RUNNING,
    Phase.ANSWERED: TaskState.UPLOADING,
}


class Work:
    """All tasks of one node. Used by the agent's thread only."""

    def __init__(
        self,
        mailbox: Mailbox,
        journal: Journal,
        payloads: PayloadStore,
        arrivals: Arrivals,
        outbox: Outbox,
        pool: WorkerPool,
        admission: Admission,
        policy: Policy,
        *,
        record: Callable[[Entry], None],
        clock: Clock,
        timeouts: Timeouts,
    ) -> None:
        """Wire the parts together.

        Args:
            mailbox: Where progress is told.
            journal: What survives.
            payloads: Models that came and updates that go.
            arrivals: Models that are still arriving.
            outbox: Answers on their way.
            pool: The workers.
            admission: Decides what is done.
            policy: How much is done at a time.
            record: Takes what the audit log must say before the transaction ends.
            clock: Tells the time.
            timeouts: When something counts as stuck.
        """
        self._mailbox = mailbox
        self._journal = journal
        self._payloads = payloads
        self._stock = Stock(journal, payloads)
        self._answers = Answers(
            mailbox.party, journal, self._stock, outbox, policy, record=record, clock=clock
        )
        self._arrivals = arrivals
        self._outbox = outbox
        self._pool = pool
        self._admission = admission
        self._policy = policy
        self._record = record
        self._clock = clock
        self._timeouts = timeouts
        self._machine = TaskMachine(0)
        self._tasks: dict[TaskId, tuple[Task, TrainRequest]] = {}
        self._shift = Shift(clock, timeouts, policy)
        self._admitted: dict[TaskId, Dataset | Failure] = {}
        """What was found out just now about a task that is being taken in."""
        self._beat_at = clock.monotonic() + _BEAT_SHARE * timeouts.progress_s
        self.after_commit: list[Callable[[], object]] = []

    @property
    def running(self) -> int:
        """Return how many tasks are with a worker."""
        return self._machine.count(Phase.RUNNING)

    @property
    def waiting(self) -> int:
        """Return how many tasks wait for a worker or their model."""
        return self._machine.count(Phase.RECEIVED, Phase.WAITING)

    @property
    def unsent(self) -> int:
        """Return how many tasks have an answer that the broker does not have yet."""
        return self._machine.count(Phase.ANSWERED)

    def prune(self, before: float) -> None:
        """Forget for good what was done with before this Unix time."""
        self._remove(self._journal.prune(before))

    def recover(self) -> None:
        """Take up what the journal holds from before."""
        self._keep_hours()
        for run in self._journal.runs():
            self._handle(RunRecovered(run))
        for record in self._journal.open_tasks():
            self._tasks[record.task.task_id] = (record.task, record.request)
            here = record.request.model.inline or self._payloads.has(record.task.model)
            if not here and record.phase is not Phase.REPORTED:
                self._arrivals.expect(record.request.model, record.task.researcher)
            self._handle(TaskRecovered(record.task, record.phase, here))

    def train(self, mail: Mail, request: TrainRequest) -> None:
        """Take in a request to train."""
        assignment = share(request, self._mailbox.party)
        if request.model.inline and (digest := sha256(mail.payload).hexdigest()) != request.model.sha256:
            raise DigestMismatchError(expected=request.model.sha256, actual=digest)
        self.after_commit.append(mail.ack)
        here = request.model.inline or self._payloads.has(request.model.sha256)
        task = Task(
            task_id=assignment.task_id,
            experiment_id=request.experiment_id,
            run_id=request.run_id,
            round=request.round,
            researcher=request.sender,
            model=request.model.sha256,
            deadline=min(request.deadline or math.inf, request.created_at + STALE_AFTER_S),
            received_at=self._clock.now(),
        )
        if not self._journal.receive(task, request) and self._journal.is_forgotten(task.task_id):
            # Only a researcher that went back to an older copy of its experiment asks for it; a new attempt may run.
            superseded = TaskSupersededError(task=task.task_id, run=task.run_id)
            answer = failed(
                self._mailbox.party, request, task.task_id, replace(Failure.of(superseded), final=False)
            )
            self.after_commit.append(lambda: self._mailbox.send(answer))
            return
        if task.task_id not in self._tasks:
            self._remove(self._stock.drop_states(task, assignment.state_of))
        self._tasks[task.task_id] = (task, request)
        if request.model.inline:
            self._journal.keep(request.model.sha256, mail.payload)
        if not here:
            self._arrivals.expect(request.model, request.sender)
        admitted = self._admission.admit(request)
        failure = admitted if isinstance(admitted, Failure) else None
        self._record(task_entry(request, task.task_id, Action.TASK_ASKED, by=request.sender, failure=failure))
        self._admitted = {task.task_id: admitted}
        self._handle(TaskReceived(task, here, failure))
        self._admitted = {}

    def chunk(self, mail: Mail, chunk: Chunk) -> None:
        """Take in a piece of a global model."""
        self.after_commit.append(mail.ack)
        sha256 = chunk.manifest.sha256
        try:
            if self._arrivals.accept(chunk, mail.payload):
                self._handle(ModelArrived(sha256))
        except DigestMismatchError as error:
            self._handle(ModelDamaged(sha256, Failure.of(error)))

    def receipt(self, message: PayloadReceipt) -> None:
        """Forget an update that its researcher has."""
        self._handle(UpdateArrived(message.sender, tuple(self._journal.owners(message.sha256))))

    def cancel(self, message: TaskCancel) -> None:
        """Stop tasks that a researcher does not want any more."""
        self._record(run_entry(message, Action.TASKS_CANCELLED, len(message.tasks)))
        self._handle(TasksCancelled(message.sender, message.tasks))

    def end(self, message: RunEnd) -> None:
        """Stop whatever is left of a run."""
        self._record(run_entry(message, Action.RUN_ENDED))
        self._handle(RunEnded(Run(message.sender, message.experiment_id, message.run_id, ended=True)))

    def worker_event(self, event: WorkerEvent) -> None:
        """Take note of what a worker said."""
        if not self._pool.heard(event):
            return
        if isinstance(event, WorkerEnded):
            log.error("worker died", extra={"action": "worker_died", "error": str(event.error)})
            if event.task_id is not None:
                self._handle(TaskBroke(event.task_id, Failure.of(event.error)))
            return
        match event.report:
            case Ready():
                if event.worker.task is not None:
                    self._shift.ready(event.worker.task.task_id)
            case Progress() as progress:
                self._progress(progress)
            case Done() as done:
                self._done(done, event.harvest or Harvest())
            case Unprotected() as report:
                self._unprotected(event.worker, report)
            case Failed(code=DiskFullError.code):
                raise DiskFullError(
                    path=self._pool.work
                )  # the agent waits for space; then the task is done again
            case Failed() as report:
                log.error(
                    "task failed",
                    extra={
                        "action": "task_failed",
                        "task": report.task_id,
                        "code": report.code,
                        "detail": report.detail,
                    },
                )
                if (running := self._shift.get(report.task_id)) is not None:
                    failure = told(report, self._tasks[report.task_id][1], running.dataset)
                    self._handle(TaskBroke(report.task_id, failure))

    def reply_published(self, event: ReplyPublished) -> None:
        """Take note that the broker has a reply, or did not take it."""
        if self._outbox.settle(event):
            self._journal.report(event.task_id, self._clock.now())
            self._handle(ReplyConfirmed(event.task_id))

    def stop(self, task_id: TaskId) -> None:
        """Stop a task that the people of the node do not want to be done."""
        self._handle(TaskStopped(task_id, self._mailbox.party))

    def data_changed(self, dataset: Dataset) -> None:
        """Stop the tasks that are at work on a data set whose files are not what they were."""
        for task_id in self._shift.tasks:
            running = self._shift.get(task_id)
            if running is not None and dataset.path in running.dataset.paths:
                self._break(task_id, DataFileGoneError(name=dataset.name, what="has changed"))

    def beat(self) -> None:
        """Tell of every open task, however long its worker is silent; called often, does so now and then."""
        now = self._clock.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + _BEAT_SHARE * self._timeouts.progress_s
        for task_id, (_, request) in self._tasks.items():
            if (phase := self._machine.phase(task_id)) in _STATES:
                news = task_progress(self._mailbox.party, request, task_id, state=_STATES[phase])
                self._mailbox.send(news)

    def due(self) -> float | None:
        """Return when `tick` must be called next, on the monotonic clock."""
        return self._shift.due()

    def tick(self) -> None:
        """Keep the working hours; give up on workers that were silent for too long, and on all if they leave too little disk."""
        self._keep_hours()
        for task_id, silence in self._shift.hung():
            self._break(task_id, silence)
        if self._shift and self._pool.free_bytes < self._policy.disk_floor_bytes:
            for task_id in self._shift.tasks:
                self._break(task_id, DiskFullError(path=self._pool.work))

    def _keep_hours(self) -> None:
        if (places := self._shift.places()) is not None:
            self._handle(WorkersAllowed(places))

    def _handle(self, event: Event) -> None:
        for effect in self._machine.handle(event, self._clock.now()):
            self._perform(effect)

    def _perform(self, effect: Begin | Abort | Refuse | Report | Retire | Forget | KeepRun) -> None:
        match effect:
            case KeepRun(run):
                self._journal.keep_run(run)
            case Begin(task_id):
                self._begin(task_id)
            case Abort(task_id):
                self._shift.end(task_id)
                count_task("cancelled")
                run_id = self._tasks[task_id][0].run_id
                self.after_commit.append(lambda: self._pool.retire(run_id))
            case Retire(run_id):
                self.after_commit.append(lambda: self._pool.retire(run_id))
            case Refuse(task_id, reason):
                self._shift.end(task_id)
                self._answers.failed(self._tasks[task_id][1], task_id, reason)
            case Report(task_id):
                self.after_commit.append(lambda: self._outbox.publish(task_id))
            case Forget(task_id):
                self._forget(task_id)

    def _begin(self, task_id: TaskId) -> None:
        admitted = self._admitted.get(task_id)
        if admitted is None:  # it waited, and minds may have changed meanwhile
            admitted = self._admission.admit(self._tasks[task_id][1])
        if isinstance(admitted, Failure):
            self._handle(TaskBroke(task_id, admitted))
            return
        begun = self._journal.begin(task_id, self._clock.now())
        TASK_RETRIES.inc(begun > 1)
        if begun > ATTEMPTS:
            error = WorkerDiedError(status=f"the agent, {ATTEMPTS} times", step="this task")
            self._handle(TaskBroke(task_id, Failure.of(error)))
            return
        dataset = admitted
        warm = self._pool.is_warm(self._tasks[task_id][0].run_id)
        self._shift.begin(task_id, dataset, warm=warm)
        self.after_commit.append(lambda: self._give(*self._tasks[task_id], dataset))

    def _give(self, task: Task, request: TrainRequest, dataset: Dataset) -> None:
        folder = self._pool.folder(task.run_id, *dataset.paths)
        spec = order(
            *(task, request, dataset),
            node=self._mailbox.party,
            folder=folder,
            stock=self._stock,
            gpu=self._policy.gpu,
        )
        if not self._pool.is_warm(task.run_id):
            self._mailbox.send(task_progress(self._mailbox.party, request, task.task_id))
        self._pool.give(task.run_id, spec)

    def _progress(self, progress: Progress) -> None:
        task_id = progress.task_id
        running = self._shift.heard(task_id)
        if running is not None and (losses := running.pace.admitted(progress.losses)):
            note_losses(self._tasks[task_id][0].experiment_id, losses)
            if (curve := running.curve.drawn(losses, self._clock.monotonic())) is not None:
                self._journal.note_losses(task_id, curve)
            news = task_progress(self._mailbox.party, self._tasks[task_id][1], task_id, losses)
            self._mailbox.send(news)

    def _done(self, done: Done, made: Harvest) -> None:
        task_id = done.task_id
        running = self._shift.get(task_id)
        if running is None:
            return
        if isinstance(made.error, DiskFullError):
            raise made.error
        task, request = self._tasks[task_id]
        if (problem := self._answers.problem(request, running, done, made)) is not None:
            self._break(task_id, problem)
            return
        self._shift.end(task_id)
        self._answers.trained(task, request, running, done, made)
        self._handle(TaskTrained(task_id))

    def _forget(self, task_id: TaskId) -> None:
        self._tasks.pop(task_id, None)
        self._shift.end(task_id)
        self._remove(self._journal.forget(task_id, self._clock.now()))

    def _remove(self, payloads: Iterable[Digest]) -> None:
        """Remove what nothing needs any more, once that is on disk."""
        for digest in payloads:
            self._arrivals.forget(digest)
            self.after_commit.append(partial(self._payloads.remove, digest))

    def _break(self, task_id: TaskId, error: WarrenError) -> None:
        """End a task together with its worker."""
        self._shift.end(task_id)
        run_id = self._tasks[task_id][0].run_id
        log.error("task stopped", extra={"action": "task_stopped", "task": task_id, "error": str(error)})
        self.after_commit.append(lambda: self._pool.retire(run_id))
        self._handle(TaskBroke(task_id, Failure.of(error)))

    def _unprotected(self, worker: Worker, report: Unprotected) -> None:
        """End the task of a worker that did not start because a compulsory protection is missing."""
        error = ProtectionMissingError(
            protection=report.protection, reason=report.reason, advice=report.advice
        )
        log.error(
            "worker unprotected",
            extra={"action": "worker_unprotected", "error": str(error), "remedy": error.advice},
        )
        if worker.task is not None and self._shift.end(worker.task.task_id):
            self._handle(TaskBroke(worker.task.task_id, Failure.of(error)))
