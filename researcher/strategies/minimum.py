"""Need a minimum of nodes before a deadline."""

from __future__ import annotations

import math
from dataclasses import dataclass

from researcher.strategies.base import Ask, Close, Decision, Fail, RoundView, SamplingStrategy, Wait, shortage


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumStrategy(SamplingStrategy):
    """Close with fewer nodes than were asked if need be.

    A node that is lost or not connected is replaced by one that was not sampled. The round closes as soon as every node that
    is online has answered and the minimum is reached, at the latest at the deadline. It fails at the deadline without the
    minimum, or as soon as the minimum cannot be reached any more. Other settings are those of `SamplingStrategy`.

    Attributes:
        min_nodes: Updates that a round needs.
        min_fraction: The same as a share of the nodes that were sampled, rounded up. Give one of the two.
        deadline_s: Seconds from the opening of the round; none waits until the minimum is there.

    Raises:
        InvalidSettingsError: If not exactly one minimum is given, or a value is out of range.
    """

    min_nodes: int | None = None
    min_fraction: float | None = None
    deadline_s: float | None = None

    def decide(self, view: RoundView) -> Decision:
        """Close with enough answers when nobody else can be expected in time; fail when there cannot be enough."""
        minimum = self.min_nodes or math.ceil((self.min_fraction or 0) * view.sampled)
        enough = len(view.accepted) >= minimum
        if view.overdue:
            return Close() if enough else Fail(shortage(view, minimum, " at the deadline"))
        if view.reserve and view.present < view.sampled:
            return Ask(view.sampled - view.present)
        if enough and view.waiting <= view.offline:
            return Close()
        if len(view.accepted) + len(view.waiting) < minimum:
            return Fail(shortage(view, minimum))
        return Wait()

    def _problems(self) -> list[str]:
        problems = SamplingStrategy._problems(self)  # noqa: SLF001 - of the base; a slotted dataclass has no super()
        if (self.min_nodes is None) == (self.min_fraction is None):
            problems.append("  give min_nodes or min_fraction")
        if self.min_nodes is not None and self.min_nodes < 1:
            problems.append("  min_nodes: should be at least 1")
        if self.min_fraction is not None and not 0 < self.min_fraction <= 1:
            problems.append("  min_fraction: should be more than 0 and at most 1")
        if self.deadline_s is not None and not self.deadline_s > 0:
            problems.append("  deadline_s: should be more than 0")
        return problems
