"""Need a minimum of nodes before a deadline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import InvalidSettingsError
from common.ids import PartyId
from researcher.strategies.base import Close, Decision, Fail, RoundView, Wait, reasons


@dataclass(frozen=True, slots=True)
class MinimumStrategy:
    """Ask all nodes, and close with fewer of them if need be.

    The round closes as soon as every node that is online has answered and the minimum is reached, at the latest at the
    deadline. It fails at the deadline without the minimum, or as soon as the minimum cannot be reached any more.

    Attributes:
        min_nodes: Updates that a round needs.
        min_fraction: The same as a share of the nodes that were asked, rounded up. Give one of the two.
        deadline_s: Seconds from the opening of the round; none waits until the minimum is there.
        retries: How often a node is asked again after a failure that is not final.

    Raises:
        InvalidSettingsError: If not exactly one minimum is given, or a value is out of range.
    """

    min_nodes: int | None = None
    min_fraction: float | None = None
    deadline_s: float | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        problems = []
        if (self.min_nodes is None) == (self.min_fraction is None):
            problems.append("  give min_nodes or min_fraction")
        if self.min_nodes is not None and self.min_nodes < 1:
            problems.append("  min_nodes: should be at least 1")
        if self.min_fraction is not None and not 0 < self.min_fraction <= 1:
            problems.append("  min_fraction: should be more than 0 and at most 1")
        if self.deadline_s is not None and not self.deadline_s > 0:
            problems.append("  deadline_s: should be more than 0")
        if problems:
            raise InvalidSettingsError(source="MinimumStrategy", problems="\n".join(problems))

    def sample_nodes(self, from_nodes: Sequence[PartyId], round_i: int) -> Sequence[PartyId]:  # noqa: ARG002 - protocol
        """Return all nodes."""
        return from_nodes

    def decide(self, view: RoundView) -> Decision:
        """Close with enough answers when nobody else can be expected in time; fail when there cannot be enough."""
        asked = len(view.accepted) + len(view.lost) + len(view.waiting)
        minimum = self.min_nodes or math.ceil((self.min_fraction or 0) * asked)
        if len(view.accepted) >= minimum and (view.overdue or view.waiting <= view.offline):
            return Close()
        if view.overdue or len(view.accepted) + len(view.waiting) < minimum:
            detail = f" ({reasons(view.lost)})" if view.lost else ""
            when = " at the deadline" if view.overdue else ""
            return Fail(f"{len(view.accepted)} of {minimum} updates{when}{detail}")
        return Wait()
