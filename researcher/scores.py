"""Say how good a model was in a round: at each node, as the mean of nodes, and over all samples as if they lay in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from common.ids import PartyId
from common.messages import Statistics, Validation
from common.pooling import AUC, auc_bound, metrics_of, pooled

if TYPE_CHECKING:
    from researcher.history import NodeRecord, RoundRecord

On = Literal["train", "global", "local"]
View = Literal["mean", "pooled"]

LOSS: Final = "loss"
_MEANS: Final = frozenset(
    {LOSS, "ACCURACY", "MEAN_SQUARE_ERROR", "MEAN_ABSOLUTE_ERROR", "LOG_LOSS", "BRIER_SCORE"}
)
"""Metrics that are means over samples, so that nodes' values weighted by samples give those of all samples."""
_RATIOS: Final = frozenset(
    {"PRECISION", "RECALL", "F1_SCORE", "EXPLAINED_VARIANCE", "R2_SCORE", AUC, "CALIBRATION_ERROR"}
)
"""Metrics of which that is not so."""
HIGHER: Final = frozenset(
    {"ACCURACY", "PRECISION", "RECALL", "F1_SCORE", "EXPLAINED_VARIANCE", "R2_SCORE", AUC}
)
"""Metrics of which more is better."""
LOWER: Final = (_MEANS | _RATIOS) - HIGHER
"""Metrics of which less is better."""


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one round, in all three views.

    Attributes:
        metric: Its name.
        on: What it is of: the `global` model that nodes received, the `local` one that each trained, or `train` for the last loss
            that each reported in training.
        nodes: The value at each node; none where it is not defined.
        mean: The mean of these, each node counting the same.
        pooled: The value over all samples of these nodes; none if it cannot be known.
        bound: How far `pooled` may be off: 0 if it is exact (to rounding), none if nobody knows, as for metrics of one's own, of which
            it is the mean weighted by samples.
        samples: How many samples all of them have.
    """

    metric: str
    on: On
    nodes: Mapping[PartyId, float | None]
    mean: float | None
    pooled: float | None
    bound: float | None
    samples: int

    def view(self, name: View) -> float | None:
        """Return the mean or the pooled value."""
        return self.mean if name == "mean" else self.pooled


def scores_of(record: RoundRecord, average: str | None = None) -> list[Score]:
    """Return the scores of a round, of the nodes whose answers were accepted.

    Args:
        record: The round.
        average: Of precision, recall and F1 over classes.
    """
    nodes = [one for one in record.nodes.values() if one.outcome == "accepted"]
    found = []
    if record.kind == "train" and any(one.losses for one in nodes):
        found.append(_training_loss(nodes))
    for on in ("global", "local"):
        told = {node.node: one for node in nodes for one in node.validations if one.on == on}
        found += _validated(on, told, average)
    return found


def _training_loss(nodes: Sequence[NodeRecord]) -> Score:
    values = {one.node: one.loss for one in nodes if one.losses}
    weights = {one.node: one.samples_seen for one in nodes if one.losses}
    return Score(
        LOSS, "train", values, _mean(values), _weighted(values, weights), None, sum(weights.values())
    )


def _validated(on: On, told: Mapping[PartyId, Validation], average: str | None) -> list[Score]:
    parts = [one.statistics for one in told.values()]
    known = [one for one in parts if one is not None]
    together = pooled(known) if len(known) == len(parts) else None
    overall = {} if together is None else metrics_of(together, average)
    derived = {
        node: {} if one.statistics is None else metrics_of(one.statistics, average)
        for node, one in told.items()
    }
    names = dict.fromkeys(name for one in told.values() for name in one.metrics) | dict.fromkeys(
        name for values in derived.values() for name in values
    )
    weights = {node: one.samples for node, one in told.items()}
    found = []
    for name in names:
        values = {node: one.metrics.get(name, derived[node].get(name)) for node, one in told.items()}
        if name in overall:
            value, bound = overall[name], _bound(name, together)
        elif name in _RATIOS:
            value, bound = None, None
        else:
            value, bound = _weighted(values, weights), 0.0 if name in _MEANS else None
        found.append(Score(name, on, values, _mean(values), value, bound, sum(weights.values())))
    return found


def _bound(name: str, together: Statistics | None) -> float | None:
    return auc_bound(together) if name == AUC and together is not None else 0.0


def _mean(values: Mapping[PartyId, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return math.fsum(known) / len(known) if known else None


def _weighted(values: Mapping[PartyId, float | None], weights: Mapping[PartyId, int]) -> float | None:
    """Return the mean weighted by samples; none if a node that has samples has no value."""
    pairs = [(value, weights[node]) for node, value in values.items() if weights[node]]
    total = sum(weight for _, weight in pairs)
    known = [value * weight for value, weight in pairs if value is not None]
    return math.fsum(known) / total if total and len(known) == len(pairs) else None
