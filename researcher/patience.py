"""Tell which nodes hang: connected, asked, and silent about their task for too long."""

from __future__ import annotations

from collections.abc import Mapping

from common.ids import PartyId, TaskId


class Patience:
    """When each task was last heard of. Not thread-safe; times are handed in, on the monotonic clock.

    Nodes tell of each task that they have, whatever they do with it, ten times in `limit_s`. While a node is away nothing can
    be heard of it, so its task counts as heard of when it returns.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._heard: dict[TaskId, float] = {}

    def heard(self, task: TaskId, monotonic: float) -> None:
        """Note that a node was asked, returned, or told something about its task."""
        self._heard[task] = monotonic

    def hung(self, expected: Mapping[PartyId, TaskId], monotonic: float) -> list[TaskId]:
        """Return those of the tasks of nodes that are connected which have been silent for too long."""
        return [task for task in expected.values() if self._due(task, monotonic) <= monotonic]

    def due(self, expected: Mapping[PartyId, TaskId], monotonic: float) -> float | None:
        """Return when `hung` should be called next, if ever."""
        return min((self._due(task, monotonic) for task in expected.values()), default=None)

    def _due(self, task: TaskId, monotonic: float) -> float:
        return self._heard.setdefault(task, monotonic) + self.limit_s
