"""What the people of a node can see of who uses its data sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from common.audit.anchor import Anchor, read_anchor
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
        by: The name of the person who looks.
    """

    home: NodeHome
    by: str

    def all(self) -> Mapping[DatasetId, tuple[Use, ...]]:
        """Return the uses of each data set, the latest first; a set that changed its content has a new id, and begins anew.

        Raises:
            AuditBrokenError: If the audit log is not as it was written.
            StorageError: If the journal cannot be read.
        """
        running = {task.task_id for task in Tasks(self.home, self.by).open()}
        log = self.home.audit_path
        end = read_anchor(log)
        asked = _asked(log, end) if end is None else _remembered(log, end)
        return {dataset_id: _uses(tasks, running) for dataset_id, tasks in asked.items()}

    def of(self, dataset_id: DatasetId) -> tuple[Use, ...]:
        """Return the uses of one data set, the latest first.

        Raises:
            AuditBrokenError: As `all` does.
            StorageError: As `all` does.
        """
        return self.all().get(dataset_id, ())


def _asked(log: Path, end: Anchor | None) -> Mapping[DatasetId, tuple[Record, ...]]:
    """Return the tasks that were asked for on each set, up to a record if one is given."""
    found: defaultdict[DatasetId, list[Record]] = defaultdict(list)
    for record in read_records(log):
        if end is not None and record.number > end.number:
            break
        if record.action is Action.TASK_ASKED and record.outcome == "done" and record.dataset_id:
            found[record.dataset_id].append(record)
    return {dataset_id: tuple(records) for dataset_id, records in found.items()}


_remembered = lru_cache(maxsize=2)(_asked)
"""A log that ends where it did before is not read again."""


def _uses(tasks: tuple[Record, ...], running: Set[TaskId]) -> tuple[Use, ...]:
    found: dict[tuple[str, str], Use] = {}
    for record in tasks:
        key = (record.actor, record.plan_hash or "")
        before = found.get(key) or Use(record.actor, record.plan_name or "", record.plan_hash or "", 0, 0.0)
        found[key] = replace(
            before,
            tasks=before.tasks + 1,
            last_at=record.at,
            running=before.running + (record.task_id in running),
        )
    return tuple(sorted(found.values(), key=lambda use: -use.last_at))
