"""Do the work that researchers ask for: journal it, run it, report it, whatever dies on the way.

What the machine in `node.tasks` decides is performed here. Every method runs inside one transaction of the journal; what must
wait for that (acks, publishes, workers) is put into `consequences`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Final

from common.audit.record import Action, Entry
from common.clock import Clock
from common.errors import DigestMismatchError, TaskSupersededError
from common.ids import Digest, TaskId
from common.mailbox import Mail, Mailbox
from common.messages import (
    Chunk,
    ChunkRequest,
    PayloadReceipt,
    RunEnd,
    TaskCancel,
    TaskState,
    TrainRequest,
)
from common.payload.store import PayloadStore
from common.settings import Timeouts
from node.admission import Admission, task_of
from node.answers import Answers
from node.arrivals import Arrivals
from node.audit import run_entry, task_entry
from node.crew import Crew
from node.dataset import Dataset
from node.figures import count_task
from node.journal import Journal
from node.outbox import Outbox, ReplyPublished
from node.policy import Policy
from node.replies import failed, share
from node.replies import progress as task_progress
from node.steps import Consequences
from node.stock import Stock
from node.task_events import (
    Abort,
    Begin,
    Effect,
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
    UpdateArrived,
)
from node.tasks import TaskMachine
from node.worker.pool import WorkerEvent, WorkerPool

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
        self.consequences = Consequences()
        self._stock = Stock(journal, payloads)
        self._answers = Answers(
            mailbox.party, journal, self._stock, outbox, policy, record=record, clock=clock
        )
        self._crew = Crew(
            *(mailbox, journal, self._stock, self._answers, pool, policy),
            later=self.consequences.journalled.append,
            clock=clock,
            timeouts=timeouts,
        )
        self._arrivals = arrivals
        self._outbox = outbox
        self._admission = admission
        self._record = record
        self._clock = clock
        self._timeouts = timeouts
        self._machine = TaskMachine(0)
        self._tasks: dict[TaskId, tuple[Task, TrainRequest]] = {}
        self._admitted: dict[TaskId, Dataset | Failure] = {}
        """What was found out just now about a task that is being taken in."""
        self._beat_at = clock.monotonic() + _BEAT_SHARE * timeouts.progress_s

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
        for event in self._crew.keep_hours():
            self._handle(event)
        for run in self._journal.runs():
            self._handle(RunRecovered(run))
        for record in self._journal.open_tasks():
            self._tasks[record.task.task_id] = (record.task, record.request)
            here = record.request.model.inline or self._payloads.has(record.task.model)
            if not here and record.phase is not Phase.REPORTED:
                self._arrivals.expect(record.request.model, record.task.researcher)
            self._handle(TaskRecovered(record.task, record.phase, here))

    def take(self, mail: Mail) -> bool:
        """Take in what a researcher wants; return False if it is not about tasks.

        Raises:
            MessageError: If it cannot be meant; nothing was taken in then.
        """
        match mail.message:
            case TrainRequest() as request:
                self._train(mail, request)
                return True
            case Chunk() as chunk:
                self._chunk(mail, chunk)
                return True
            case ChunkRequest() as missed:
                self._outbox.send_chunks(missed)
            case PayloadReceipt(sender=sender, sha256=digest):  # it has the update, which may be forgotten
                self._handle(UpdateArrived(sender, tuple(self._journal.owners(digest))))
            case TaskCancel(sender=sender, tasks=tasks) as cancel:
                self._record(run_entry(cancel, Action.TASKS_CANCELLED, len(tasks)))
                self._handle(TasksCancelled(sender, tasks))
            case RunEnd(sender=sender, experiment_id=experiment, run_id=run) as end:
                self._record(run_entry(end, Action.RUN_ENDED))
                self._handle(RunEnded(Run(sender, experiment, run, ended=True)))
            case _:
                return False
        self.consequences.settled.append(mail.ack)
        return True

    def _train(self, mail: Mail, request: TrainRequest) -> None:
        """Take in a request to train."""
        assignment = share(request, self._mailbox.party)
        if request.model.inline and (digest := sha256(mail.payload).hexdigest()) != request.model.sha256:
            raise DigestMismatchError(expected=request.model.sha256, actual=digest)
        self.consequences.settled.append(mail.ack)
        here = request.model.inline or self._payloads.has(request.model.sha256)
        task = task_of(request, assignment, self._clock.now())
        if task.task_id not in self._tasks and self._journal.is_forgotten(task.task_id):
            # Only a researcher that went back to an older copy of its experiment asks for it; a new attempt may run.
            superseded = TaskSupersededError(task=task.task_id, run=task.run_id)
            answer = failed(
                self._mailbox.party, request, task.task_id, replace(Failure.of(superseded), final=False)
            )
            self.consequences.synced.append(lambda: self._mailbox.send(answer))
            return
        self._journal.receive(task, request)
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

    def _chunk(self, mail: Mail, chunk: Chunk) -> None:
        """Take in a piece of a global model."""
        self.consequences.synced.append(mail.ack)  # the next ones come only then
        sha256 = chunk.manifest.sha256
        try:
            if self._arrivals.accept(chunk, mail.payload):
                self._handle(ModelArrived(sha256))
        except DigestMismatchError as error:
            self._handle(ModelDamaged(sha256, Failure.of(error)))

    def worker_event(self, event: WorkerEvent) -> None:
        """Take note of what a worker said."""
        if (outcome := self._crew.take(event)) is not None:
            self._handle(outcome)

    def reply_published(self, event: ReplyPublished) -> None:
        """Take note that the broker has a reply, or did not take it."""
        if self._outbox.settle(event):
            self._journal.report(event.task_id)
            self._handle(ReplyConfirmed(event.task_id))

    def stop(self, task_id: TaskId) -> None:
        """Stop a task that the people of the node do not want to be done."""
        self._handle(TaskStopped(task_id, self._mailbox.party))

    def data_changed(self, dataset: Dataset) -> None:
        """Stop the tasks that are at work on a data set whose files are not what they were."""
        for event in self._crew.data_changed(dataset):
            self._handle(event)

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
        return self._crew.due()

    def tick(self) -> None:
        """Keep the working hours, and give up what hangs or may not go on."""
        for event in self._crew.tick():
            self._handle(event)

    def _handle(self, event: Event) -> None:
        for effect in self._machine.handle(event, self._clock.now()):
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case KeepRun(run):
                self._journal.keep_run(run)
            case Begin(task_id):
                self._begin(task_id)
            case Abort(task_id):
                count_task("cancelled")
                self._crew.abort(self._tasks[task_id][0])
            case Retire(run_id):
                self._crew.retire(run_id)
            case Refuse(task_id, reason):
                self._crew.end(task_id)
                self._answers.failed(self._tasks[task_id][1], task_id, reason)
            case Report(task_id):
                self.consequences.synced.append(lambda: self._outbox.publish(task_id))
            case Forget(task_id):
                self._forget(task_id)

    def _begin(self, task_id: TaskId) -> None:
        admitted = self._admitted.get(task_id)
        if admitted is None:  # it waited, and minds may have changed meanwhile
            admitted = self._admission.admit(self._tasks[task_id][1])
        if isinstance(admitted, Failure):
            self._handle(TaskBroke(task_id, admitted))
            return
        task, request = self._tasks[task_id]
        if (given_up := self._crew.begin(task, request, admitted)) is not None:
            self._handle(TaskBroke(task_id, given_up))

    def _forget(self, task_id: TaskId) -> None:
        self._tasks.pop(task_id, None)
        self._crew.end(task_id)
        self._remove(self._journal.forget(task_id, self._clock.now()))

    def _remove(self, payloads: Iterable[Digest]) -> None:
        """Remove what nothing needs any more, once that is on disk."""
        for digest in payloads:
            self._arrivals.forget(digest)
            self.consequences.settled.append(partial(self._payloads.remove, digest))
