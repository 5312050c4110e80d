"""Define what a strategy sees and what it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from common.ids import PartyId


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round as a strategy sees it; each node asked is in exactly one of `accepted`, `lost` and `waiting`."""

    round: int
    accepted: Set[PartyId]
    """Nodes whose update counts."""
    lost: Mapping[PartyId, str]
    """Nodes that will not send a usable update, with the reason."""
    waiting: Set[PartyId]
    """Nodes that may still answer."""
    offline: Set[PartyId]
    """Those of the waiting ones that are not connected now."""
    overdue: bool
    """Whether the deadline has passed."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave the round open."""


@dataclass(frozen=True, slots=True)
class Close:
    """Aggregate what was accepted."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give the round up."""

    reason: str


Decision = Wait | Close | Fail


class Strategy(Protocol):
    """Decides about rounds; a pure object without state of its own, so that a resumed round is decided alike."""

    @property
    def retries(self) -> int:
        """Return how often a node is asked again after a failure that is not final."""
        ...

    @property
    def deadline_s(self) -> float | None:
        """Return the seconds after which a round is overdue, or None if it never is."""
        ...

    def sample_nodes(self, from_nodes: Sequence[PartyId], round_i: int) -> Sequence[PartyId]:
        """Return the nodes of a round, out of those that have a matching data set."""
        ...

    def decide(self, view: RoundView) -> Decision:
        """Say what becomes of the round; asked again after each change."""
        ...


def reasons(lost: Mapping[PartyId, str]) -> str:
    """Return one readable clause about the nodes that were lost."""
    return "; ".join(f"{node}: {reason}" for node, reason in sorted(lost.items()))
