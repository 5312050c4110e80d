"""Look out for what people of the node want done, and for changes of those data sets whose people asked for it.

A set that changed is marked in the registry, and no task runs on it until somebody at the node has checked or updated it. Network
file systems tell nothing of what others do there: the comparison before each task stays the law, and here one learns of it earlier.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.audit.record import Action, Entry
from common.clock import Clock
from common.errors import NoSuchDatasetError
from common.ids import DatasetId, PartyId
from node.figures import CHANGED_DATASETS
from node.fingerprint import untouched
from node.registry import Dataset, Registry
from node.stops import StopAsked, StopWishes

if TYPE_CHECKING:
    from node.watching import FileWatch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Touched:
    """Something happened to the files of a data set, or may have."""

    dataset_id: DatasetId


class Vigil:
    """Watches data sets. Used by the agent's thread only; what is posted comes from another."""

    def __init__(
        self,
        node: PartyId,
        registry: Registry,
        stops: StopWishes,
        *,
        post: Callable[[Touched | StopAsked], None],
        record: Callable[[Entry], None],
        clock: Clock,
    ) -> None:
        """Watch nothing yet.

        Args:
            node: Who watches, for the audit log.
            registry: The data sets.
            stops: The tasks that people want to be stopped.
            post: Takes what was touched, for `take`, and what is to be stopped.
            record: Writes an audit entry.
            clock: Tells the time.
        """
        self._node = node
        self._registry = registry
        self._stops = stops
        self._post = post
        self._record = record
        self._clock = clock
        self._version: tuple[int, int] | None = None
        self._paths: dict[DatasetId, Path] = {}
        self._watch: FileWatch | None = None

    def look(self) -> None:
        """Take note of what people registered, looked at or want since the last call; cheap if they did nothing."""
        version = self._registry.version()
        if version == self._version:
            return
        self._version = version
        for task_id in self._stops.open():
            self._post(StopAsked(task_id))
        watched = [dataset for dataset in self._registry.list() if dataset.watched]
        CHANGED_DATASETS.set(sum(dataset.changed_at is not None for dataset in watched))
        paths = {dataset.dataset_id: dataset.path for dataset in watched if dataset.changed_at is None}
        if paths != self._paths:
            self._paths = paths
            self._follow()

    def take(self, touched: Touched) -> Dataset | None:
        """Return the data set if it has changed, after marking it; None if all is well, or the change is known."""
        if self._watch is not None:
            self._watch.heard(touched.dataset_id)
        with suppress(NoSuchDatasetError):  # it was removed meanwhile
            dataset = self._registry.get(touched.dataset_id)
            if dataset.changed_at is None and not untouched(dataset.path, dataset.fingerprint):
                self._mark(dataset)
                return dataset
        return None

    def close(self) -> None:
        """Stop watching; idempotent."""
        if self._watch is not None:
            self._watch.close()

    def _mark(self, dataset: Dataset) -> None:
        entry = Entry(
            action=Action.DATASET_CHANGED,
            actor=self._node,
            dataset_id=dataset.dataset_id,
            note=dataset.name,
        )
        self._registry.mark(dataset.dataset_id, self._clock.now(), witness=lambda: self._record(entry))
        log.warning("data set changed", extra={"action": "dataset_changed", "dataset": dataset.dataset_id})
        self.look()

    def _follow(self) -> None:
        """Watch the paths that are to be watched, and no others."""
        if self._watch is None:
            from node.watching import FileWatch  # only a node that watches something needs its library

            self._watch = FileWatch(lambda dataset_id: self._post(Touched(dataset_id)))
        self._watch.watch(self._paths)
        for dataset_id in self._paths:  # it may have changed before the kernel was asked
            self._post(Touched(dataset_id))
