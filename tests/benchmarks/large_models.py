"""Rounds with large models: time, CPU, memory, and bytes on the wire."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks import yardstick
from tests.benchmarks.processes import wire_bytes
from tests.benchmarks.trials import Trial, steps

CASES = ((100, 4), (500, 2), (1024, 4))
"""MiB of the model, and nodes."""


def run(*, quick: bool) -> tuple[list[dict[str, Any]], Table]:
    """Measure all cases, or the first alone."""
    found = [measure(mib, nodes, 2) for mib, nodes in (CASES[:1] if quick else CASES)]
    table = Table(
        *("MiB x nodes", "round s", "CPU s", "times TCP", "times memcpy"),
        *(f"{kind}: CPU s, idle + MB" for kind in ("researcher", "broker", "agent", "worker")),
        "wire / payload",
        title="Large models, RabbitMQ with mutual TLS, sealed chunks",
    )
    for one in found:
        cpu, idle, added = one["cpu_s_per_round"], one["idle_rss_mb"], one["added_rss_mb"]
        table.add_row(
            f"{one['model_mib']} x {one['nodes']}",
            f"{one['round_s']['best']:.1f}",
            f"{sum(cpu.values()):.1f}",
            f"{one['times_tcp']:.1f}",
            f"{one['times_memcpy']:.1f}",
            *(
                f"{cpu.get(kind, 0):.1f}, {idle.get(kind, 0):.0f} + {added.get(kind, 0):.0f}"
                for kind in ("researcher", "broker", "agent", "worker")
            ),
            f"{one['wire_per_payload']:.3f}",
        )
    return found, table


def measure(mib: int, nodes: int, rounds: int) -> dict[str, Any]:
    """Run rounds with a model of so many MiB and return the figures.

    The first round is not counted: workers load torch then. Memory is what each process held idle after it, and the kernel's
    peak beyond that; of several processes of a kind, that of the one that needed most.
    """
    machine = yardstick.measure()
    with (
        tempfile.TemporaryDirectory(prefix="warren-bench-") as folder,
        Trial(Path(folder), nodes, mib * yardstick.MIB // 4) as trial,
    ):
        trial.run(1)
        sent = wire_bytes(trial.world)
        outcome = trial.run(rounds)
        sent = wire_bytes(trial.world) - sent
    times = [record.duration_s or 0.0 for record in outcome.records]
    model_mb = mib * yardstick.MIB / 1e6
    moved_mb = 2 * nodes * model_mb  # what nodes get and give
    stored_mb = model_mb + 3 * nodes * model_mb  # in and out of the broker: the model goes in once
    used = outcome.used
    return {
        "model_mib": mib,
        "nodes": nodes,
        "rounds": rounds,
        "round_s": {"best": min(times), "median": sorted(times)[len(times) // 2]},
        "times_tcp": min(times) / (moved_mb / machine["loopback_mb_s"]),
        "times_memcpy": min(times) / (moved_mb / machine["memcpy_mb_s"]),
        "cpu_s_per_round": {kind: seconds / rounds for kind, seconds in used.cpu_s.items()},
        "cpu_ms_per_mb": 1000 * sum(used.cpu_s.values()) / rounds / moved_mb,
        "idle_rss_mb": used.idle_mb,
        "added_rss_mb": used.added_mb,
        "peak_rss_mb": used.peak_mb,
        "wire_mb_per_round": sent / rounds / 1e6,
        "wire_per_payload": sent / rounds / 1e6 / stored_mb,
        "steps_s": steps(outcome.records),
        "machine": machine,
    }
