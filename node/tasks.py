"""Decide what happens to each task at a node: a pure machine, events in, effects out.

    received ──model here──▶ waiting ──worker free──▶ running ──▶ answered ──reply confirmed──▶ reported ──▶ forgotten
        └───────── expired, cancelled, superseded, refused ──────────▲

An answer is an update or a failure; both are kept and published until the broker has them. A task that is known is never run
twice: its answer is published again. Work of an older run of an experiment, or of one that ended, never runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from common.errors import (
    TaskCancelledError,
    TaskExpiredError,
    TaskSupersededError,
)
from common.ids import ExperimentId, PartyId, RunId, TaskId
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
    TaskTrained,
    UpdateArrived,
    WorkersAllowed,
)


@dataclass(slots=True)
class _Entry:
    task: Task
    phase: Phase


@dataclass(slots=True)
class TaskMachine:
    """The tasks of one node.

    Attributes:
        max_workers: Tasks that may run side by side.
    """

    max_workers: int
    _entries: dict[TaskId, _Entry] = field(default_factory=dict)
    _newest: dict[tuple[PartyId, ExperimentId], Run] = field(default_factory=dict)
    _served: dict[RunId, int] = field(default_factory=dict)
    _turn: int = 0

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event into account and return what to do.

        Args:
            event: What happened.
            now: Unix time in seconds, against which deadlines are held.
        """
        return [*self._handle(event, now), *self._start(now)]

    def phase(self, task_id: TaskId) -> Phase | None:
        """Return how far a task has come, or None if it is not known."""
        entry = self._entries.get(task_id)
        return entry.phase if entry else None

    def count(self, *phases: Phase) -> int:
        """Return how many tasks are in these phases."""
        return sum(entry.phase in phases for entry in self._entries.values())

    def _handle(self, event: Event, now: float) -> Iterator[Effect]:
        match event:
            case TaskReceived():
                yield from self._receive(event, now)
            case TaskRecovered(task, phase, model_here):
                self._entries[task.task_id] = _Entry(task, phase)
                if phase is Phase.ANSWERED:
                    yield Report(task.task_id)
                elif phase in (Phase.RECEIVED, Phase.WAITING, Phase.RUNNING):
                    self._entries[task.task_id].phase = Phase.WAITING if model_here else Phase.RECEIVED
            case RunRecovered(run):
                self._newest[run.researcher, run.experiment_id] = run
            case ModelArrived(model):
                for entry in self._in(Phase.RECEIVED):
                    if entry.task.model == model:
                        entry.phase = Phase.WAITING
            case ModelDamaged(model, failure):
                for entry in self._in(Phase.RECEIVED):
                    if entry.task.model == model:
                        yield from self._refuse(entry, failure)
            case TaskTrained(task_id):
                if self.phase(task_id) is Phase.RUNNING:
                    self._entries[task_id].phase = Phase.ANSWERED
                    yield Report(task_id)
            case TaskBroke(task_id, failure):
                if self.phase(task_id) is Phase.RUNNING:
                    yield from self._refuse(self._entries[task_id], failure)
            case ReplyConfirmed(task_id):
                if self.phase(task_id) is Phase.ANSWERED:
                    self._entries[task_id].phase = Phase.REPORTED
            case UpdateArrived(researcher, task_ids):
                for entry in self._of(researcher, task_ids):
                    if entry.phase is Phase.REPORTED:
                        yield from self._forget(entry)
            case TasksCancelled(researcher, task_ids):
                for entry in self._of(researcher, task_ids):
                    yield from self._cancel(entry, researcher)
            case TaskStopped(task_id, node):
                if self.phase(task_id) in (Phase.RECEIVED, Phase.WAITING, Phase.RUNNING):
                    yield from self._cancel(self._entries[task_id], node)
            case WorkersAllowed(count):
                self.max_workers = count
            case RunEnded(run):
                newest = self._newest.get((run.researcher, run.experiment_id))
                if newest is None or newest.run_id <= run.run_id:
                    yield from self._keep(run)
                if newest is not None and newest.run_id < run.run_id:
                    yield from self._end(newest)  # its own end never came: its researcher died
                yield from self._end(run)

    def _receive(self, event: TaskReceived, now: float) -> Iterator[Effect]:
        task = event.task
        known = self._entries.get(task.task_id)
        if known is not None:
            if known.phase is Phase.REPORTED:
                known.phase = Phase.ANSWERED
                yield Report(task.task_id)
            return
        newest = self._newest.get((task.researcher, task.experiment_id))
        run = Run(task.researcher, task.experiment_id, task.run_id, ended=False)
        entry = self._entries[task.task_id] = _Entry(task, Phase.RECEIVED)
        if newest is not None and (newest.run_id > run.run_id or newest == replace(run, ended=True)):
            yield from self._refuse(
                entry, Failure.of(TaskSupersededError(task=task.task_id, run=task.run_id))
            )
            return
        if newest != run:
            if newest is not None:
                yield from self._end(newest)
            yield from self._keep(run)
        for old in list(self._entries.values()):
            if old.task.run_id == task.run_id and old.task.round < task.round and old.phase is Phase.REPORTED:
                yield from self._forget(old)
        if task.deadline is not None and task.deadline < now:
            yield from self._refuse(entry, _expired(task, now))
        elif event.refusal is not None:
            yield from self._refuse(entry, event.refusal)
        elif event.model_here:
            entry.phase = Phase.WAITING

    def _start(self, now: float) -> Iterator[Effect]:
        """Give free workers to waiting tasks, the run that was served longest ago first."""
        for entry in self._in(Phase.WAITING):
            if entry.task.deadline is not None and entry.task.deadline < now:
                yield from self._refuse(entry, _expired(entry.task, now))
        while self.count(Phase.RUNNING) < self.max_workers and (waiting := self._in(Phase.WAITING)):
            entry = min(waiting, key=lambda one: self._served.get(one.task.run_id, 0))
            entry.phase = Phase.RUNNING
            self._turn += 1
            self._served[entry.task.run_id] = self._turn
            yield Begin(entry.task.task_id)

    def _refuse(self, entry: _Entry, failure: Failure) -> Iterator[Effect]:
        entry.phase = Phase.ANSWERED
        yield Refuse(entry.task.task_id, failure)
        yield Report(entry.task.task_id)

    def _cancel(self, entry: _Entry, by: PartyId) -> Iterator[Effect]:
        if entry.phase is Phase.RUNNING:
            yield Abort(entry.task.task_id)
        if entry.phase in (Phase.RECEIVED, Phase.WAITING, Phase.RUNNING):
            yield from self._refuse(entry, Failure.of(TaskCancelledError(task=entry.task.task_id, by=by)))
        else:
            yield from self._forget(entry)

    def _keep(self, run: Run) -> Iterator[Effect]:
        self._newest[run.researcher, run.experiment_id] = run
        yield KeepRun(run)

    def _end(self, run: Run) -> Iterator[Effect]:
        self._served.pop(run.run_id, None)
        for entry in list(self._entries.values()):
            if entry.task.run_id == run.run_id and entry.task.researcher == run.researcher:
                if entry.phase is Phase.RUNNING:
                    yield Abort(entry.task.task_id)
                yield from self._forget(entry)
        yield Retire(run.run_id)

    def _forget(self, entry: _Entry) -> Iterator[Effect]:
        del self._entries[entry.task.task_id]
        yield Forget(entry.task.task_id)

    def _in(self, phase: Phase) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.phase is phase]

    def _of(self, researcher: PartyId, task_ids: tuple[TaskId, ...]) -> list[_Entry]:
        entries = (self._entries.get(task_id) for task_id in task_ids)
        return [entry for entry in entries if entry is not None and entry.task.researcher == researcher]


def _expired(task: Task, now: float) -> Failure:
    return Failure.of(TaskExpiredError(task=task.task_id, late_s=round(now - (task.deadline or now), 1)))
