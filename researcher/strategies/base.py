"""Define what a strategy sees and what it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from common.errors import InvalidSettingsError
from common.ids import PartyId
from researcher.strategies.sampling import AllNodes, Sample, Sampling


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
    sampled: int
    """How many nodes were asked at first."""
    reserve: Sequence[PartyId] = ()
    """Nodes that were not asked and may stand in for others."""

    @property
    def present(self) -> int:
        """Return how many nodes have answered well or, being connected, may still do so."""
        return len(self.accepted) + len(self.waiting - self.offline)


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave the round open."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask so many nodes of the reserve too, and leave the round open."""

    nodes: int


@dataclass(frozen=True, slots=True)
class Close:
    """Aggregate what was accepted."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give the round up."""

    reason: str


Decision = Wait | Ask | Close | Fail


class Strategy(Protocol):
    """Decides about rounds; a pure object without state of its own, so that a resumed round is decided alike."""

    @property
    def retries(self) -> int:
        """Return how often a node is asked again after a failure that is not final."""
        ...

    @property
    def deadline_s(self) -> float | None:
        """Return the seconds after which a round is overdue, or None if it never is.

        The deadline moves on while the bytes of an update are arriving: it counts twice `Timeouts.reply_s` after the last of
        them at the earliest.
        """
        ...

    @property
    def leave_out_rounds(self) -> int:
        """Return for how many rounds a node is left out after it was lost, its retries included."""
        ...

    def sample_nodes(self, from_nodes: Mapping[PartyId, int], round_i: int) -> Sample:
        """Return the nodes of a round, out of those that have a matching data set of so many samples."""
        ...

    def decide(self, view: RoundView) -> Decision:
        """Say what becomes of the round; asked again after each change."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingStrategy:
    """What the strategies of this package have in common.

    Attributes:
        retries: How often a node is asked again in a round after a failure that is not final.
        leave_out_rounds: For how many rounds a node is left out after it was lost.
        sampling: Chooses the nodes of a round; see `researcher.strategies.sampling`.

    Raises:
        InvalidSettingsError: If a number is negative.
    """

    retries: int = 1
    leave_out_rounds: int = 0
    sampling: Sampling = field(default_factory=AllNodes)

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise InvalidSettingsError(source=type(self).__name__, problems="\n".join(problems))

    def sample_nodes(self, from_nodes: Mapping[PartyId, int], round_i: int) -> Sample:
        """Return the nodes of a round and the reserve."""
        return self.sampling.sample(from_nodes, round_i)

    def _problems(self) -> list[str]:
        numbers = {"retries": self.retries, "leave_out_rounds": self.leave_out_rounds}
        return [f"  {name}: should not be negative" for name, number in numbers.items() if number < 0]


def reasons(lost: Mapping[PartyId, str]) -> str:
    """Return one readable clause about the nodes that were lost."""
    return "; ".join(f"{node}: {reason}" for node, reason in sorted(lost.items()))


def shortage(view: RoundView, needed: int, when: str = "") -> str:
    """Return one readable clause about a round that has too few updates."""
    detail = f" ({reasons(view.lost)})" if view.lost else ""
    return f"{len(view.accepted)} of {needed} updates{when}{detail}"
