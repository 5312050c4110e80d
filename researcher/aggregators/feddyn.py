"""Let each node's loss agree with that of all in the end: FedDyn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import InvalidSettingsError
from common.messages import Correction, FedDynCorrection
from common.payload.blocks import Doubles
from common.payload.header import Content
from researcher.aggregators.base import Contribution
from researcher.aggregators.stateful import Recall, StatefulAggregator, fold


@dataclass(frozen=True, slots=True)
class FedDyn(StatefulAggregator):
    """Federated learning with dynamic regularization (Acar et al., ICLR 2021, algorithm 1).

    Node i minimises its loss - <h_i, y> + alpha / 2 |y - x|^2 from the global model x, by as many steps as the training arguments say, then
    sets h_i = h_i - alpha (y_i - x), which stays there. The researcher sets, S being the nodes of the round and N all nodes of the experiment:

        h = h - alpha / N sum (y_i - x)
        x = 1 / |S| sum y_i - h / alpha

    Nodes count alike, whatever their data. Buffers, such as the running statistics of BatchNorm, and integers become their mean.

    Attributes:
        alpha: How strongly to pull towards the global model, greater than 0.

    Raises:
        InvalidSettingsError: If alpha is another number.
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise InvalidSettingsError(
                source="FedDyn", problems=f"  alpha: {self.alpha!r} is not a number greater than 0"
            )

    def correction(self) -> Correction:
        """See `StatefulAggregator.correction`."""
        return FedDynCorrection(alpha=self.alpha)

    def aggregate(
        self, base: Content, contributions: Sequence[Contribution], target: Path, recall: Recall | None = None
    ) -> None:
        """Write x and h; see `StatefulAggregator.aggregate`."""
        count = len(contributions)
        members = recall.members if recall else count
        shares = [1 / count] * count

        def rule(x: Doubles, sums: list[Doubles], h: Doubles) -> tuple[Doubles, Doubles]:
            (change,) = sums
            h = h - self.alpha * count / members * change
            return x + change - h / self.alpha, h

        fold(self, base, contributions, target, shares=shares, weights=(shares,), rule=rule, recall=recall)
