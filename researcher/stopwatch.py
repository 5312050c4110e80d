"""Measure the steps of a round."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """Seconds that the steps of a round took.

    Attributes:
        opened: When the round began, on the monotonic clock.
        timings: Seconds by name.
    """

    opened: float
    timings: dict[str, float] = field(default_factory=dict)
    _mark: float | None = None

    def lap(self, name: str, monotonic: float) -> None:
        """Note a step that ends now and began with the end of the one before."""
        self.timings[name] = monotonic - (self.opened if self._mark is None else self._mark)
        self._mark = monotonic
