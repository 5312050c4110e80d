"""What the people of a node can see of the tasks that it does for researchers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from common.audit.record import Action, Record
from common.audit.verify import read_records
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import LossPoint, TaskFailed, TrainReply
from node.home import NodeHome
from node.journal import Journal
from node.replies import share
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
        losses: Training losses; known once it is answered.
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
    """

    asked: Record | None
    ended: Record


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of a node, before the eyes of its people.

    Attributes:
        home: The node.
    """

    home: NodeHome

    def open(self) -> tuple[OpenTask, ...]:
        """Return the tasks that are not done with, the oldest first."""
        node = self.home.connection().party
        with self._journal() as journal:
            found = [(record, journal.reply(record.task.task_id)) for record in journal.open_tasks()]
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
                losses=reply.losses if isinstance(reply, TrainReply) else (),
                code=reply.code if isinstance(reply, TaskFailed) else None,
            )
            for record, reply in found
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
        return tuple(
            PastTask(asked.get(task_id), record) for task_id, record in islice(reversed(ended.items()), most)
        )

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        journal = Journal(self.home.journal_path)
        try:
            yield journal
        finally:
            journal.close()
