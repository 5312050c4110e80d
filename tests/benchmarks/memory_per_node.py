"""Memory that one more node costs: peaks over 2, 4, 8 and 16 nodes with different updates."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks import yardstick
from tests.benchmarks.crowd import Crowd
from tests.benchmarks.trials import Trial

NODES = (2, 4, 8, 16)
KINDS = ("researcher", "broker")


def run(*, quick: bool) -> tuple[dict[str, Any], Table]:
    """Measure with a model of 100 MiB, or of 20."""
    found = measure(20 if quick else 100, NODES)
    table = Table(
        "nodes",
        *(f"{kind} peak MB" for kind in KINDS),
        title=f"Memory per node, model of {found['model_mib']} MiB",
    )
    for row in found["peaks"]:
        table.add_row(f"{row['nodes']}", *(f"{row[kind]:.0f}" for kind in KINDS))
    table.add_row("MB per node", *(f"{found['mb_per_node'][kind]:.2f}" for kind in KINDS))
    table.add_row("% of the model", *(f"{found['share_per_node'][kind]:.2%}" for kind in KINDS))
    return found, table


def measure(mib: int, counts: tuple[int, ...]) -> dict[str, Any]:
    """Run two rounds with each number of nodes; the peak is that of the second, the slope is fitted by least squares."""
    rows = []
    for nodes in counts:
        with (
            tempfile.TemporaryDirectory(prefix="warren-bench-") as folder,
            Trial(Path(folder), nodes, mib * yardstick.MIB // 4, world=Crowd) as trial,
        ):
            trial.run(1)
            peaks = trial.run(1).used.peak_mb
        rows.append({"nodes": nodes, **{kind: peaks[kind] for kind in KINDS}})
    slopes = {kind: statistics.linear_regression(counts, [row[kind] for row in rows]).slope for kind in KINDS}
    model_mb = mib * yardstick.MIB / 1e6
    return {
        "model_mib": mib,
        "peaks": rows,
        "mb_per_node": slopes,
        "share_per_node": {kind: slope / model_mb for kind, slope in slopes.items()},
    }
