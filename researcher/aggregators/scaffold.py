"""Correct for nodes whose data pull their models apart: SCAFFOLD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from common.errors import InvalidSettingsError
from common.messages import Correction, ScaffoldCorrection
from common.payload.blocks import Doubles
from common.payload.header import Content
from researcher.aggregators.base import Contribution
from researcher.aggregators.stateful import Recall, StatefulAggregator, Told, fold


@dataclass(frozen=True, slots=True)
class Scaffold(StatefulAggregator):
    """Stochastic controlled averaging (Karimireddy et al., ICML 2020, algorithm 1, option II).

    Node i takes K steps y = y - lr (g - c_i + c) from the global model x, then sets c_i = c_i - c + (x - y_i) / (K lr). The researcher sets, S
    being the nodes of the round and N all nodes of the experiment:

        x = x + server_lr / |S| sum (y_i - x)
        c = c + 1 / N sum (change of c_i)

    c goes to the nodes beside the model, c_i stays at its node, and its change follows from y_i, K and lr, so an update is as large as without.
    Meant for plans that step by plain SGD with one learning rate for all parameters, which may change from step to step: K lr is the sum over the steps. Nodes
    count alike, whatever their data. Buffers, such as the running statistics of BatchNorm, and integers become their mean.

    Attributes:
        server_lr: How far to go along the mean of the changes, greater than 0.

    Raises:
        InvalidSettingsError: If the rate is another number.
    """

    requires: ClassVar[tuple[Told, ...]] = ("lr_sum",)
    carries: ClassVar[bool] = True

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.server_lr < float("inf"):
            raise InvalidSettingsError(
                source="Scaffold", problems=f"  server_lr: {self.server_lr!r} is not a number greater than 0"
            )

    def correction(self) -> Correction:
        """See `StatefulAggregator.correction`."""
        return ScaffoldCorrection()

    def aggregate(
        self, base: Content, contributions: Sequence[Contribution], target: Path, recall: Recall | None = None
    ) -> None:
        """Write x and c; see `StatefulAggregator.aggregate`."""
        count = len(contributions)
        members = recall.members if recall else count
        shares = [1 / count] * count
        lengths = [-1 / (members * (one.lr_sum or 1.0)) for one in contributions]

        def rule(x: Doubles, sums: list[Doubles], c: Doubles) -> tuple[Doubles, Doubles]:
            change, gradients = sums
            return x + self.server_lr * change, c - count / members * c + gradients

        fold(
            self,
            base,
            contributions,
            target,
            shares=shares,
            weights=(shares, lengths),
            rule=rule,
            recall=recall,
        )
