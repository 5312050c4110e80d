"""Average nodes that take different numbers of steps: FedNova."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from common.errors import InvalidSettingsError
from common.payload.blocks import Doubles
from common.payload.header import Content
from researcher.aggregators.base import Contribution
from researcher.aggregators.fedavg import Weights, check_weights, shares_of
from researcher.aggregators.stateful import Told, fold


@dataclass(frozen=True, slots=True)
class FedNova:
    """Normalized averaging (Wang et al., NeurIPS 2020, equations 6 and 7).

    A node that takes tau_i steps of SGD from the global model x to y_i has added up gradients whose weights sum to |a_i|: tau_i without
    momentum, and (tau_i - m (1 - m^tau_i) / (1 - m)) / (1 - m) with momentum m. The researcher sets, p_i being the shares of the nodes:

        x = x + (sum p_i |a_i|) sum p_i (y_i - x) / |a_i|

    so that nodes which take more steps do not pull the model towards their own optimum. Buffers, such as the running statistics of BatchNorm,
    and integers become their weighted mean.

    Attributes:
        weights: `dataset_size` weighs a node by the samples in the training part of its data set, as in the paper; `samples_seen` by those that
            took part in its steps.
        momentum: That of the plan's SGD, at least 0 and less than 1.

    Raises:
        InvalidSettingsError: If a setting is something else.
    """

    requires: ClassVar[tuple[Told, ...]] = ("steps",)

    weights: Weights = "dataset_size"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_weights("FedNova", self.weights)
        if not 0 <= self.momentum < 1:
            raise InvalidSettingsError(
                source="FedNova", problems=f"  momentum: {self.momentum!r} is not at least 0 and less than 1"
            )

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the normalized mean; see `Aggregator.aggregate`."""
        shares = shares_of(contributions, self.weights)
        norms = [self._norm(max(1, one.steps)) for one in contributions]
        effective = sum(share * norm for share, norm in zip(shares, norms, strict=True))
        weights = [effective * share / norm for share, norm in zip(shares, norms, strict=True)]

        def rule(x: Doubles, sums: list[Doubles], memory: Doubles) -> tuple[Doubles, Doubles]:
            return x + sums[0], memory

        fold(self, base, contributions, target, shares=shares, weights=(weights,), rule=rule, recall=None)

    def _norm(self, steps: int) -> float:
        momentum = self.momentum
        return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)
