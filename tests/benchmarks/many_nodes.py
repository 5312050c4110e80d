"""What a round costs with 10, 50 and 200 light nodes and a model of 1,000 parameters."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks.crowd import Crowd
from tests.benchmarks.trials import Trial

KINDS = ("researcher", "broker", "crowd")


def run(*, quick: bool) -> tuple[list[dict[str, Any]], Table]:
    """Measure, with fewer nodes and rounds if it must be quick."""
    found = [measure(nodes, 5 if quick else 20) for nodes in ((10, 50) if quick else (10, 50, 200))]
    table = Table(
        *("nodes", "median ms", "p90 ms", "ms per node", "CPU ms per node"),
        *(f"{kind} CPU ms, MB" for kind in KINDS),
        title="Many light nodes, 1,000 parameters, RabbitMQ with mutual TLS; `crowd` is all agents together",
    )
    for one in found:
        cpu, peak = one["cpu_ms_per_round"], one["peak_rss_mb"]
        table.add_row(
            f"{one['nodes']}",
            f"{one['round_ms']['median']:.0f}",
            f"{one['round_ms']['p90']:.0f}",
            f"{one['round_ms']['median'] / one['nodes']:.2f}",
            f"{sum(cpu.values()) / one['nodes']:.2f}",
            *(f"{cpu.get(kind, 0):.0f}, {peak.get(kind, 0):.0f}" for kind in KINDS),
        )
    return found, table


def measure(nodes: int, rounds: int) -> dict[str, Any]:
    """Run so many rounds at so many nodes and return the figures; two rounds before are not counted."""
    with (
        tempfile.TemporaryDirectory(prefix="warren-bench-") as folder,
        Trial(Path(folder), nodes, 1000, world=Crowd) as trial,
    ):
        trial.run(2)
        outcome = trial.run(rounds)
    times = sorted((record.duration_s or 0.0) * 1000 for record in outcome.records)
    used = outcome.used
    return {
        "nodes": nodes,
        "rounds": rounds,
        "round_ms": {"median": statistics.median(times), "p90": times[int(0.9 * len(times))]},
        "cpu_ms_per_round": {kind: seconds / rounds * 1000 for kind, seconds in used.cpu_s.items()},
        "peak_rss_mb": used.peak_mb,
    }
