"""Wait for every node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.ids import PartyId
from researcher.strategies.base import Close, Decision, Fail, RoundView, Wait, reasons


@dataclass(frozen=True, slots=True)
class DefaultStrategy:
    """Ask all nodes and wait for all of them, however long they are away.

    A node that fails for good, or whose update is refused, fails the round.

    Attributes:
        retries: How often a node is asked again after a failure that is not final.
    """

    retries: int = 1

    @property
    def deadline_s(self) -> None:
        """Return None: this strategy has no deadline."""
        return

    def sample_nodes(self, from_nodes: Sequence[PartyId], round_i: int) -> Sequence[PartyId]:  # noqa: ARG002 - protocol
        """Return all nodes."""
        return from_nodes

    def decide(self, view: RoundView) -> Decision:
        """Close when all have answered; fail when one cannot."""
        if view.lost:
            return Fail(reasons(view.lost))
        return Wait() if view.waiting else Close()
