"""Measure how far and in which direction the nodes of a round moved the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.ids import PartyId
from common.payload.blocks import Doubles
from common.payload.header import Content
from researcher.aggregators.base import Contribution
from researcher.aggregators.stack import Stack


@dataclass(frozen=True, slots=True)
class Drift:
    """What one node changed in one round.

    Attributes:
        round: The round.
        node: The node.
        norm: Euclidean norm of the change; only floats count.
        cosine: Cosine of the angle between the change and the mean of all nodes' changes, each counting the same: 1 where all agree,
            below 0 where the node pulls the other way; none if one of the two is nothing.
    """

    round: int
    node: PartyId
    norm: float
    cosine: float | None


class DriftGauge:
    """Looks at the updates of a round in the place of an aggregator, and makes no model."""

    def __init__(self, round_: int) -> None:
        self.drifts: list[Drift] = []
        self._round = round_

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:  # noqa: ARG002 - no model
        """Measure the updates; reads them block by block, as an aggregator does."""
        with Stack(base, contributions) as stack:
            products = stack.products()
        for one, (norm, cosine) in zip(contributions, directions(products), strict=True):
            self.drifts.append(Drift(self._round, one.node, norm, cosine))


def directions(products: Doubles) -> list[tuple[float, float | None]]:
    """Return norm, and cosine to the mean, of changes whose inner products are these."""
    norms = np.sqrt(products.diagonal())
    mean = float(np.sqrt(max(products.mean(), 0.0)))
    along = products.mean(axis=1)
    return [
        (float(norm), float(np.clip(part / (norm * mean), -1, 1)) if norm > 0 and mean > 0 else None)
        for norm, part in zip(norms, along, strict=True)
    ]
