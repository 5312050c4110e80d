"""Keep the training losses of a task in few points, for eyes at the node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from common.messages import LossPoint

POINTS: Final = 200
"""Most points of one task."""

_DRAWN_PER_S: Final = 1


def thinned(points: Iterable[LossPoint]) -> tuple[LossPoint, ...]:
    """Return at most `POINTS` of these points, evenly chosen, and always the last one."""
    found = tuple(points)
    while len(found) > POINTS:
        found = found[(len(found) - 1) % 2 :: 2]
    return found


@dataclass(slots=True)
class Curve:
    """The losses of a running task."""

    _points: tuple[LossPoint, ...] = ()
    _due: float = 0.0

    def drawn(self, points: Iterable[LossPoint], now: float) -> tuple[LossPoint, ...] | None:
        """Take points, and return all that are kept if they were not drawn for a second.

        Args:
            points: The newest losses.
            now: On the monotonic clock.
        """
        self._points = thinned((*self._points, *points))
        if now < self._due:
            return None
        self._due = now + 1 / _DRAWN_PER_S
        return self._points
