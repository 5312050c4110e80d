"""Wait for every node."""

from __future__ import annotations

from dataclasses import dataclass

from researcher.strategies.base import Ask, Close, Decision, Fail, RoundView, SamplingStrategy, Wait, reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultStrategy(SamplingStrategy):
    """Wait for all nodes that were asked, however long they are away.

    A node that fails for good, or whose update is refused, is replaced by one that was not sampled. Without one the round fails.
    Settings are those of `SamplingStrategy`.
    """

    @property
    def deadline_s(self) -> None:
        """Return None: this strategy has no deadline."""
        return

    def decide(self, view: RoundView) -> Decision:
        """Close when enough have answered; replace whoever cannot, or fail."""
        missing = view.sampled - len(view.accepted) - len(view.waiting)
        if missing > 0:
            return Ask(missing) if view.reserve else Fail(reasons(view.lost))
        return Wait() if view.waiting else Close()
