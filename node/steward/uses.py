"""What the people of a node can see of who uses its data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from common.audit.record import Action, Record
from common.audit.verify import read_records
from common.ids import DatasetId, TaskId
from node.home import NodeHome
from node.steward.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Use:
    """What one researcher did with one training plan on a data set.

    Attributes:
        researcher: The party.
        plan_name: The plan.
        plan_hash: Its hash.
        tasks: How many tasks were asked for and not refused.
        last_at: Unix time of the last.
        running: Tasks that are not done with.
    """

    researcher: str
    plan_name: str
    plan_hash: str
    tasks: int
    last_at: float
    running: int = 0


@dataclass(frozen=True, slots=True)
class Uses:
    """Who uses the data sets of a node, as the audit log and the journal tell.

    Attributes:
        home: The node.
    """

    home: NodeHome

    def all(self) -> Mapping[DatasetId, tuple[Use, ...]]:
        """Return the uses of each data set, the latest first; a set that changed its content has a new id, and begins anew.

        Raises:
            AuditBrokenError: If the audit log is not as it was written.
            StorageError: If the journal cannot be read.
        """
        running = {task.task_id for task in Tasks(self.home).open()}
        found: dict[DatasetId, dict[tuple[str, str], Use]] = {}
        for record in read_records(self.home.audit_path):
            if record.action is Action.TASK_ASKED and record.outcome == "done" and record.dataset_id:
                uses = found.setdefault(record.dataset_id, {})
                key = (record.actor, record.plan_hash or "")
                uses[key] = _again(uses.get(key), record, running)
        return {
            dataset_id: tuple(sorted(uses.values(), key=lambda use: -use.last_at))
            for dataset_id, uses in found.items()
        }

    def of(self, dataset_id: DatasetId) -> tuple[Use, ...]:
        """Return the uses of one data set, the latest first.

        Raises:
            AuditBrokenError: As `all` does.
            StorageError: As `all` does.
        """
        return self.all().get(dataset_id, ())


def _again(before: Use | None, record: Record, running: set[TaskId]) -> Use:
    now = int(record.task_id in running)
    if before is None:
        return Use(record.actor, record.plan_name or "", record.plan_hash or "", 1, record.at, now)
    return replace(before, tasks=before.tasks + 1, last_at=record.at, running=before.running + now)
