"""What the people of a node can see of the tasks that it does for researchers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from common.audit.glance import Tally, glance, latest_of, tally
from common.audit.record import Action, Entry, Record
from common.audit.selection import Selected, Selection
from common.errors import NoSuchTaskError
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import LossPoint, TaskFailed
from common.training_args import TrainingArgs
from node.home import NodeHome
from node.journal import Journal
from node.replies import share
from node.stops import StopWishes
from node.task_events import Phase

ENDS: Final = frozenset({Action.UPDATE_RELEASED, Action.TASK_FAILED})
"""Each task ends with one of these; with two, if a crash made it end twice."""
LEAVES: Final = ENDS | {Action.DATASETS_DESCRIBED}
"""What leaves a node: updates, the news of failures, descriptions of data sets."""
CAN_STOP: Final = (Phase.RECEIVED, Phase.WAITING, Phase.RUNNING)
_STEPS: Final = 100


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task that is not done with.

    Attributes:
        task_id: Its id.
        researcher: Who asked for it.
        experiment_id: The experiment that it is a part of.
        run_id: The incarnation of that.
        round: The round.
        plan_name: Class name of its plan.
        plan_hash: Hash of its plan.
        dataset_id: What it is done on.
        received_at: Unix time at which it came.
        phase: How far it has come.
        losses: Some of its training losses until now, as they were told about a second ago.
        code: Why it came to nothing; None if it did not, or nobody knows yet.
        training_args: How it is to be trained.
        model_args: What its model is made with.
        stopping: Whether somebody at the node wants it to be stopped.
    """

    task_id: TaskId
    researcher: PartyId
    experiment_id: ExperimentId
    run_id: RunId
    round: int
    plan_name: str
    plan_hash: Digest
    dataset_id: DatasetId
    received_at: float
    phase: Phase
    losses: tuple[LossPoint, ...] = ()
    code: str | None = None
    training_args: TrainingArgs = field(kw_only=True)
    model_args: Mapping[str, JsonValue] = field(kw_only=True)
    stopping: bool = field(kw_only=True)

    @property
    def can_stop(self) -> bool:
        """Tell whether `cancel` takes it."""
        return self.phase in CAN_STOP

    @property
    def progress(self) -> float | None:
        """Return which part of its training is done, from 0 to 1; None if nobody can tell."""
        args = self.training_args
        if not self.losses:
            return None
        if args.num_updates:
            return min(1.0, self.losses[-1].iteration / args.num_updates)
        return min(1.0, self.losses[-1].epoch / args.epochs) if args.epochs else None


@dataclass(frozen=True, slots=True)
class PastTask:
    """What the audit log says of a task that came to an end.

    Attributes:
        asked: The record of the request: who, which experiment, plan and data set. None if the log began later.
        ended: The record of what left the node, an update or a failure, with its size, number of figures and code.
        losses: Some of its training losses; none if it ended more than a month ago.
    """

    asked: Record | None
    ended: Record
    losses: tuple[LossPoint, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """Some of the tasks that ended, the latest first, and how many there are in all."""

    tasks: tuple[PastTask, ...]
    count: int


@dataclass(frozen=True, slots=True)
class TaskView:
    """All that is known of a task.

    Attributes:
        task_id: Its id.
        open: How it stands, if it is not done with.
        steps: What the audit log says of it, oldest first.
        losses: Some of its training losses.
    """

    task_id: TaskId
    open: OpenTask | None
    steps: tuple[Record, ...]
    losses: tuple[LossPoint, ...]


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of a node, in the hands of one person.

    Attributes:
        home: The node.
        by: The name of the person, for the audit log.
    """

    home: NodeHome
    by: str

    def open(self) -> tuple[OpenTask, ...]:
        """Return the tasks that are not done with, the oldest first."""
        node = self.home.connection().party
        with self._wishes() as wishes:
            stopping = wishes.open()
        with self._journal() as journal:
            found = [
                (record, journal.reply(record.task.task_id), journal.losses(record.task.task_id))
                for record in journal.open_tasks()
            ]
        return tuple(
            OpenTask(
                task_id=record.task.task_id,
                researcher=record.task.researcher,
                experiment_id=record.task.experiment_id,
                run_id=record.task.run_id,
                round=record.task.round,
                plan_name=record.request.plan_name,
                plan_hash=record.request.plan_hash,
                dataset_id=share(record.request, node).dataset_id,
                received_at=record.task.received_at,
                phase=record.phase,
                losses=losses,
                code=reply.code if isinstance(reply, TaskFailed) else None,
                training_args=record.request.training_args,
                model_args=record.request.model_args,
                stopping=record.task.task_id in stopping,
            )
            for record, reply, losses in found
        )

    def past(self, most: int, *, skipped: int = 0, wanted: Selection | None = None) -> Past:
        """Return the tasks that ended last, the latest first; the audit log is read as it stands, `audit verify` checks it.

        Args:
            most: How many at most.
            skipped: How many of the latest are left out.
            wanted: Which ends are wanted, of those in `ENDS`.

        Raises:
            AuditBrokenError: If a record cannot be read.
        """
        folder = self.home.audit_path
        wanted = wanted or Selection()
        actions = ENDS if wanted.actions is None else wanted.actions & ENDS
        ended = glance(folder, replace(wanted, actions=actions), most=most, skipped=skipped)
        asked = latest_of(folder, Action.TASK_ASKED, [one.task_id for one in ended.records if one.task_id])
        with self._journal() as journal:
            found = tuple(
                PastTask(asked.get(one.task_id), one, journal.losses(one.task_id))
                for one in reversed(ended.records)
                if one.task_id is not None
            )
        return Past(found, ended.count)

    def find(self, task_id: str) -> TaskView:
        """Return all that is known of a task.

        Raises:
            NoSuchTaskError: If nothing is.
            AuditBrokenError: If a record cannot be read.
        """
        still = next((task for task in self.open() if task.task_id == task_id), None)
        steps = glance(self.home.audit_path, Selection(task_id=task_id), most=_STEPS).records
        if still is None and not steps:
            raise NoSuchTaskError(task=task_id)
        with self._journal() as journal:
            losses = still.losses if still else journal.losses(TaskId(task_id))
        return TaskView(TaskId(task_id), still, steps, losses)

    def left(self, wanted: Selection, *, most: int, skipped: int = 0) -> Selected:
        """Return what left the node last, oldest first: the records of updates, failures and descriptions.

        Raises:
            AuditBrokenError: If a record cannot be read.
        """
        actions = LEAVES if wanted.actions is None else wanted.actions & LEAVES
        return glance(self.home.audit_path, replace(wanted, actions=actions), most=most, skipped=skipped)

    def updates_by_dataset(self) -> dict[tuple[str, str], Tally]:
        """Return how many updates left, with how many bytes and figures, by data set and researcher."""
        return tally(self.home.audit_path, Action.UPDATE_RELEASED)

    def cancel(self, which: str) -> TaskId:
        """Ask the agent to stop a task, which it does within seconds, or when it starts; its researcher is told.

        Args:
            which: The id of the task, or enough of its last characters.

        Raises:
            NoSuchTaskError: If it is none, or not one, of those that are received, waiting or running.
            AuditBrokenError: If it cannot be recorded; nothing is stopped.
        """
        found = [task for task in self.open() if task.can_stop and which and task.task_id.endswith(which)]
        if len(found) != 1:
            raise NoSuchTaskError(task=which)
        (task,) = found
        entry = Entry(
            action=Action.TASKS_CANCELLED,
            actor=f"person {self.by}",
            experiment_id=task.experiment_id,
            run_id=task.run_id,
            task_id=task.task_id,
            count=1,
        )
        audit = self.home.audit()
        with self._wishes() as wishes:
            wishes.ask(task.task_id, witness=lambda: audit.append(entry))
        return task.task_id

    @contextmanager
    def _wishes(self) -> Iterator[StopWishes]:
        wishes = StopWishes(self.home.registry_path)
        try:
            yield wishes
        finally:
            wishes.close()

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        journal = Journal(self.home.journal_path)
        try:
            yield journal
        finally:
            journal.close()
