"""Ask more nodes than are needed and take the first answers."""

from __future__ import annotations

from dataclasses import dataclass

from researcher.strategies.base import Ask, Close, Decision, Fail, RoundView, SamplingStrategy, Wait, shortage


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSelectStrategy(SamplingStrategy):
    """Close with the first updates, and cancel the nodes that are slower (Bonawitz et al., MLSys 2019).

    The sampling says how many nodes are asked. When fewer than are needed are left and connected, nodes that were not sampled
    are asked too. Other settings are those of `SamplingStrategy`.

    Attributes:
        first: How many updates a round takes.
        deadline_s: Seconds from the opening of the round after which it fails; none waits.

    Raises:
        InvalidSettingsError: If a value is out of range.
    """

    first: int
    deadline_s: float | None = None

    def decide(self, view: RoundView) -> Decision:
        """Close with the first updates; ask others when there are too few nodes; fail when there cannot be enough."""
        if len(view.accepted) >= self.first:
            return Close()
        if view.overdue:
            return Fail(shortage(view, self.first, " at the deadline"))
        if view.reserve and view.present < self.first:
            return Ask(self.first - view.present)
        if len(view.accepted) + len(view.waiting) < self.first:
            return Fail(shortage(view, self.first))
        return Wait()

    def _problems(self) -> list[str]:
        problems = SamplingStrategy._problems(self)  # noqa: SLF001 - of the base; a slotted dataclass has no super()
        if self.first < 1:
            problems.append("  first: should be at least 1")
        if self.deadline_s is not None and not self.deadline_s > 0:
            problems.append("  deadline_s: should be more than 0")
        return problems
