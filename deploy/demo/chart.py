"""Draw the loss of the demo's hospitals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from researcher.chart import chart_of


def loss_chart(losses: Mapping[str, Sequence[float | None]], mean: Sequence[float | None]) -> str:
    """Return a chart of the loss of each node and their mean over the rounds, from 1, as SVG."""
    rounds = max(len(values) for values in (*losses.values(), mean))
    title = "Training loss at each node, and their mean"
    return chart_of(title, losses, {"mean": mean}, range(1, rounds + 1)).svg
