"""What the people of a node can see of the tasks that it does for researchers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from common.audit.record import Action, Entry, Record
from common.audit.verify import read_records
from common.errors import NoSuchTaskError
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import LossPoint, TaskFailed
from node.home import NodeHome
from node.journal import Journal
from node.replies import share
from node.stops import StopWishes
from node.task_events import Phase


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
            )
            for record, reply, losses in found
        )

    def past(self, most: int) -> tuple[PastTask, ...]:
        """Return the tasks that ended last, the latest first.

        Raises:
            AuditBrokenError: If the audit log is not as it was written.
        """
        asked: dict[TaskId, Record] = {}
        ended: dict[TaskId, Record] = {}
        for record in read_records(self.home.audit_path):
            if record.task_id is None:
                continue
            if record.action is Action.TASK_ASKED:
                asked[record.task_id] = record
            elif record.action in (Action.UPDATE_RELEASED, Action.TASK_FAILED):
                ended.pop(record.task_id, None)  # done again after a crash
                ended[record.task_id] = record
        with self._journal() as journal:
            return tuple(
                PastTask(asked.get(task_id), record, journal.losses(task_id))
                for task_id, record in islice(reversed(ended.items()), most)
            )

    def cancel(self, which: str) -> TaskId:
        """Ask the agent to stop a task, which it does within seconds, or when it starts; its researcher is told.

        Args:
            which: The id of the task, or enough of its last characters.

        Raises:
            NoSuchTaskError: If it is none, or not one, of those that are received, waiting or running.
            AuditBrokenError: If it cannot be recorded; nothing is stopped.
        """
        found = [
            task
            for task in self.open()
            if task.phase in (Phase.RECEIVED, Phase.WAITING, Phase.RUNNING)
            and which
            and task.task_id.endswith(which)
        ]
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
        audit, wishes = self.home.audit(), StopWishes(self.home.registry_path)
        try:
            wishes.ask(task.task_id, witness=lambda: audit.append(entry))
        finally:
            wishes.close()
        return task.task_id

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        journal = Journal(self.home.journal_path)
        try:
            yield journal
        finally:
            journal.close()
