"""Choose which nodes take part in a round, and who may stand in for them.

A sample depends on the nodes there are, the number of the round and a seed, and on nothing else: whoever samples again gets the
same. Each node's lot is drawn from the seed, the round and its id, so a node that comes or goes changes nobody else's lot.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.errors import InvalidSettingsError
from common.ids import PartyId


@dataclass(frozen=True, slots=True)
class Sample:
    """The nodes of a round."""

    nodes: tuple[PartyId, ...]
    """Whom to ask."""
    reserve: tuple[PartyId, ...] = ()
    """Who may be asked in place of one that is lost, in this order."""


class Sampling(Protocol):
    """Samples nodes; a pure object without state of its own."""

    def sample(self, from_nodes: Mapping[PartyId, int], round_i: int) -> Sample:
        """Return the nodes of a round out of these, which come with the number of samples in their data sets."""
        ...


@dataclass(frozen=True, slots=True)
class AllNodes:
    """Take all nodes in every round."""

    def sample(self, from_nodes: Mapping[PartyId, int], round_i: int) -> Sample:  # noqa: ARG002 - protocol
        """Return all nodes, and nobody in reserve."""
        return Sample(tuple(sorted(from_nodes)))


@dataclass(frozen=True, slots=True)
class RandomSampling:
    """Take nodes at random, each with the same chance.

    Attributes:
        num_nodes: How many.
        fraction: The same as a share of the nodes there are, rounded up. Give one of the two.
        seed: Another seed gives other samples.

    Raises:
        InvalidSettingsError: If not exactly one size is given, or it is out of range.
    """

    num_nodes: int | None = None
    fraction: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, from_nodes: Mapping[PartyId, int], round_i: int) -> Sample:
        """Return the nodes with the smallest lots, the others in reserve."""
        order = sorted(from_nodes, key=lambda node: (_lot(self.seed, round_i, node), node))
        return _split(order, self.num_nodes, self.fraction)


@dataclass(frozen=True, slots=True)
class WeightedSampling:
    """Take nodes at random without replacement, each draw in proportion to the size of its data set.

    The method is that of Efraimidis and Spirakis (Information Processing Letters 97, 2006).

    Attributes:
        num_nodes: How many.
        fraction: The same as a share of the nodes there are, rounded up. Give one of the two.
        seed: Another seed gives other samples.

    Raises:
        InvalidSettingsError: If not exactly one size is given, or it is out of range.
    """

    num_nodes: int | None = None
    fraction: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, from_nodes: Mapping[PartyId, int], round_i: int) -> Sample:
        """Return the nodes with the smallest lots after these were divided by the sizes, the others in reserve."""

        def key(node: PartyId) -> tuple[float, PartyId]:
            return -math.log(_lot(self.seed, round_i, node)) / max(from_nodes[node], 1), node

        return _split(sorted(from_nodes, key=key), self.num_nodes, self.fraction)


@dataclass(frozen=True, slots=True)
class RoundRobinSampling:
    """Take nodes in turn, in the order of their ids.

    Attributes:
        num_nodes: How many.
        fraction: The same as a share of the nodes there are, rounded up. Give one of the two.

    Raises:
        InvalidSettingsError: If not exactly one size is given, or it is out of range.
    """

    num_nodes: int | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, from_nodes: Mapping[PartyId, int], round_i: int) -> Sample:
        """Return the next nodes after those of the round before, the others in reserve."""
        order = sorted(from_nodes)
        first = (round_i - 1) * _size(len(order), self.num_nodes, self.fraction) % max(len(order), 1)
        return _split(order[first:] + order[:first], self.num_nodes, self.fraction)


def _check(sampling: RandomSampling | WeightedSampling | RoundRobinSampling) -> None:
    problems = []
    if (sampling.num_nodes is None) == (sampling.fraction is None):
        problems.append("  give num_nodes or fraction")
    if sampling.num_nodes is not None and sampling.num_nodes < 1:
        problems.append("  num_nodes: should be at least 1")
    if sampling.fraction is not None and not 0 < sampling.fraction <= 1:
        problems.append("  fraction: should be more than 0 and at most 1")
    if problems:
        raise InvalidSettingsError(source=type(sampling).__name__, problems="\n".join(problems))


def _size(available: int, number: int | None, fraction: float | None) -> int:
    return min(available, math.ceil((fraction or 0) * available) if number is None else number)


def _split(order: Sequence[PartyId], number: int | None, fraction: float | None) -> Sample:
    size = _size(len(order), number, fraction)
    return Sample(tuple(sorted(order[:size])), tuple(order[size:]))


def _lot(seed: int, round_i: int, node: PartyId) -> float:
    """Return a number between 0 and 1, neither included, that looks random and is the same everywhere."""
    drawn = hashlib.sha256(f"sample\x1f{seed}\x1f{round_i}\x1f{node}".encode()).digest()[:6]
    return (int.from_bytes(drawn) + 0.5) / 2**48
