"""Make a model of updates of which some may be wrong, by accident or on purpose.

None of these weighs nodes by their samples, save for `GeometricMedian`: whoever lies about an update lies about its samples too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from common.errors import InvalidSettingsError, TooFewUpdatesError
from common.payload.blocks import Doubles
from common.payload.header import Content
from researcher.aggregators.base import Contribution
from researcher.aggregators.fedavg import FedAverage
from researcher.aggregators.stack import Stack

_STEPS: Final = 10_000
"""Most iterations of Weiszfeld's algorithm; cheap, as each takes numbers of nodes only, and slow to settle near an update."""


@dataclass(frozen=True, slots=True)
class CoordinateMedian:
    """Take the median of each number (Yin et al., ICML 2018, definition 1); of an even number of updates, the mean of the middle two."""

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the medians; see `Aggregator.aggregate`."""
        with Stack(base, contributions) as stack:
            stack.map(lambda values: np.median(values, axis=0), target)


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """Take the mean of each number without the largest and the smallest of it (Yin et al., ICML 2018, definition 2).

    Attributes:
        trim: Share of the updates that is left out at either end, at least 0 and less than 0.5; rounded down to whole updates.

    Raises:
        InvalidSettingsError: If the share is another number.
    """

    trim: float = 0.1

    def __post_init__(self) -> None:
        _require(
            0 <= self.trim < 0.5,
            "TrimmedMean",
            f"trim: {self.trim!r} is not a share of at least 0 and less than 0.5",
        )

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the trimmed means; see `Aggregator.aggregate`."""
        count = len(contributions)
        out = int(self.trim * count)
        with Stack(base, contributions) as stack:
            stack.map(
                lambda values: _sum(np.sort(values, axis=0)[out : count - out]) / (count - 2 * out), target
            )


@dataclass(frozen=True, slots=True)
class Krum:
    """Take those updates that lie closest to their neighbours (Blanchard et al., NeurIPS 2017, section 4), and their mean.

    The score of an update is the sum of its squared distances to the n - f - 2 closest others, n updates being there; the `keep`
    updates with the lowest scores are averaged. With `keep` 1 it is Krum, with more Multi-Krum. Only floats count for distances.

    Attributes:
        byzantine: Updates that may be wrong, f; 2 f + 3 updates are needed.
        keep: Updates that are averaged, m; at most n - f.

    Raises:
        InvalidSettingsError: If a number is negative, or nothing is kept.
    """

    byzantine: int = 1
    keep: int = 1

    def __post_init__(self) -> None:
        _require(self.byzantine >= 0, "Krum", f"byzantine: {self.byzantine!r} is negative")
        _require(self.keep >= 1, "Krum", f"keep: {self.keep!r} is less than 1")

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the mean of the chosen updates; see `Aggregator.aggregate`.

        Raises:
            TooFewUpdatesError: If there are fewer than 2 f + 3, or than f + m.
        """
        needed = max(2 * self.byzantine + 3, self.byzantine + self.keep)
        _require_updates("Krum", needed, contributions)
        with Stack(base, contributions) as stack:
            scores = krum_scores(stack.distances(), self.byzantine)
        chosen = sorted(np.argsort(scores, kind="stable")[: self.keep])
        with Stack(base, [contributions[index] for index in chosen]) as stack:
            stack.map(lambda values: _sum(values) / self.keep, target)


@dataclass(frozen=True, slots=True)
class Bulyan:
    """Choose updates by Krum, then take the mean of what lies around the median (El Mhamdi et al., ICML 2018, section 4).

    Of n updates, n - 2 f are chosen one after the other, each by Krum among those that are left; then each number is the mean of
    the n - 4 f chosen ones that are closest to the median of the chosen ones.

    Attributes:
        byzantine: Updates that may be wrong, f; 4 f + 3 updates are needed.

    Raises:
        InvalidSettingsError: If the number is negative.
    """

    byzantine: int = 1

    def __post_init__(self) -> None:
        _require(self.byzantine >= 0, "Bulyan", f"byzantine: {self.byzantine!r} is negative")

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the model; see `Aggregator.aggregate`.

        Raises:
            TooFewUpdatesError: If there are fewer than 4 f + 3.
        """
        _require_updates("Bulyan", 4 * self.byzantine + 3, contributions)
        with Stack(base, contributions) as stack:
            chosen = self._chosen(stack.distances())
        kept = len(chosen) - 2 * self.byzantine

        def around_the_median(values: Doubles) -> Doubles:
            far = np.argsort(np.abs(values - np.median(values, axis=0)), axis=0, kind="stable")
            return _sum(np.take_along_axis(values, far[:kept], axis=0)) / kept

        with Stack(base, [contributions[index] for index in chosen]) as stack:
            stack.map(around_the_median, target)

    def _chosen(self, distances: Doubles) -> list[int]:
        left = list(range(len(distances)))
        chosen: list[int] = []
        while len(chosen) < len(distances) - 2 * self.byzantine:
            scores = krum_scores(distances[np.ix_(left, left)], self.byzantine)
            chosen.append(left.pop(int(np.argmin(scores))))
        return sorted(chosen)


@dataclass(frozen=True, slots=True)
class GeometricMedian:
    """Take the point whose weighted distances to the updates have the least sum: RFA (Pillutla et al., IEEE TSP 2022, algorithm 2).

    Found by the smoothed Weiszfeld algorithm. The point is always a weighted mean of the updates, so the iteration needs only the
    distances between them: with weights b that sum to one, |x_i - sum_j b_j x_j|^2 = sum_j b_j d_ij - 1/2 sum_jk b_j b_k d_jk.

    Attributes:
        smoothing: Distances below this count as this, nu in the paper; greater than 0.
        tolerance: The iteration ends when no weight changes by more.

    Raises:
        InvalidSettingsError: If a number is not positive.
    """

    smoothing: float = 1e-6
    tolerance: float = 1e-12

    def __post_init__(self) -> None:
        for name in ("smoothing", "tolerance"):
            value = getattr(self, name)
            _require(value > 0, "GeometricMedian", f"{name}: {value!r} is not positive")

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the geometric median; see `Aggregator.aggregate`. Nodes weigh by the samples that they have seen."""
        counts = np.array([one.samples_seen for one in contributions], dtype=np.float64)
        with Stack(base, contributions) as stack:
            shares = self._shares(stack.distances(), counts / counts.sum())
            stack.map(lambda values: _sum(shares[:, None] * values), target)

    def _shares(self, distances: Doubles, weights: Doubles) -> Doubles:
        shares = weights
        for _ in range(_STEPS):
            squares = distances @ shares - 0.5 * shares @ distances @ shares
            pulls = weights / np.maximum(self.smoothing, np.sqrt(np.maximum(squares, 0.0)))
            before, shares = shares, pulls / pulls.sum()
            if np.abs(shares - before).max() <= self.tolerance:
                break
        return shares


@dataclass(frozen=True, slots=True)
class NormClipping:
    """Shorten each update that is too far from the base, then average as `FedAverage` does (Sun et al., 2019, section 3).

    Only floats count for the distance; all of an update is shortened by the same factor.

    Attributes:
        max_norm: Longest Euclidean distance that stays as it is; greater than 0.

    Raises:
        InvalidSettingsError: If the distance is not positive.
    """

    max_norm: float

    def __post_init__(self) -> None:
        _require(self.max_norm > 0, "NormClipping", f"max_norm: {self.max_norm!r} is not positive")

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the mean of the shortened updates; see `Aggregator.aggregate`."""
        with Stack(base, contributions) as stack:
            norms = stack.norms()
        clipped = [
            replace(one, start=one.start or base, scale=one.scale * self.max_norm / norm)
            if norm > self.max_norm
            else one
            for one, norm in zip(contributions, norms, strict=True)
        ]
        FedAverage().aggregate(base, clipped, target)


def krum_scores(distances: Doubles, byzantine: int) -> Doubles:
    """Return the score of each update: the sum of its n - f - 2 least squared distances to others, at least one.

    Args:
        distances: Squared distances, of shape (n, n).
        byzantine: Updates that may be wrong, f.
    """
    count = len(distances)
    neighbours = max(1, count - byzantine - 2)
    others = np.sort(distances + np.diag(np.full(count, np.inf)), axis=1)
    scores: Doubles = others[:, :neighbours].sum(axis=1) if count > 1 else np.zeros(1)
    return scores


def _sum(values: Doubles) -> Doubles:
    """Return the sum of the rows, added in their order: numpy's own order depends on the shape."""
    total = np.zeros(values.shape[1])
    for row in values:
        total += row
    return total


def _require(condition: bool, source: str, problem: str) -> None:  # noqa: FBT001  reads like an assertion
    if not condition:
        raise InvalidSettingsError(source=source, problems=f"  {problem}")


def _require_updates(aggregator: str, needed: int, contributions: Sequence[Contribution]) -> None:
    if len(contributions) < needed:
        raise TooFewUpdatesError(aggregator=aggregator, needed=needed, count=len(contributions))
