"""Average the updates, weighted by how much data is behind each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from common.errors import InvalidSettingsError
from common.payload.blocks import BlockFile, blocks, from_doubles, to_doubles
from common.payload.header import Content
from researcher.aggregators.base import Contribution

Weights = Literal["samples_seen", "dataset_size"]


def check_weights(aggregator: str, weights: str) -> None:
    """Raise InvalidSettingsError if there are no such weights."""
    if weights not in ("samples_seen", "dataset_size"):
        raise InvalidSettingsError(
            source=aggregator, problems=f"  weights: {weights!r} is not samples_seen or dataset_size"
        )


def shares_of(contributions: Sequence[Contribution], weights: Weights) -> list[float]:
    """Return by how much each update counts; together 1."""
    counts = [one.samples_seen if weights == "samples_seen" else one.samples_train for one in contributions]
    return [count / sum(counts) for count in counts]


@dataclass(frozen=True, slots=True)
class FedAverage:
    """Federated averaging (McMahan et al., AISTATS 2017, algorithm 1).

    Each parameter is the weighted mean of the updates, summed in float64 in node order and rounded once. Integers, counters
    of batch normalisation for instance, are rounded weighted means.

    Attributes:
        weights: `samples_seen` weighs a node by the samples that took part in its optimisation steps, `dataset_size` by
            those in the training part of its data set.

    Raises:
        InvalidSettingsError: If the weights are something else.
    """

    weights: Weights = "samples_seen"

    def __post_init__(self) -> None:
        check_weights("FedAverage", self.weights)

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the weighted mean; see `Aggregator.aggregate`. Memory is a few blocks, whatever the model and the nodes."""
        shares = shares_of(contributions, self.weights)
        with ExitStack() as stack:
            model = stack.enter_context(BlockFile(base))
            files = [stack.enter_context(one.open(base, model.layout)) for one in contributions]
            out = stack.enter_context(target.open("wb"))
            out.write(model.layout.header)
            for name, entry in model.index.items():
                for first, count in blocks(entry):
                    total = np.zeros(count)
                    for share, file in zip(shares, files, strict=True):
                        total += share * to_doubles(file.read(name, first, count), entry.dtype)
                    out.write(from_doubles(total, entry.dtype).data)
