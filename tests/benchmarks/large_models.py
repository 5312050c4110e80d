"""Rounds with large models: time, CPU, memory, and bytes on the wire."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks import yardstick
from tests.benchmarks.processes import Watch, wire_bytes
from tests.benchmarks.trials import Trial, steps

KINDS = ("researcher", "broker", "agent", "worker")
_SMALL_MIB = 200
"""Models up to here are measured over three rounds, larger ones in one."""


def run(mib: int, nodes: int, *, quick: bool) -> tuple[dict[str, Any], Table]:
    """Measure with a model of so many MiB, or of a tenth of that."""
    one = measure(mib // 10 if quick else mib, nodes, 3 if mib <= _SMALL_MIB else 1)
    table = Table(
        *("MiB x nodes", "round s", "CPU s", "CPU: times TCP", "wall: times TCP", "times memcpy"),
        *(f"{kind}: CPU s, idle + MB" for kind in KINDS),
        "wire / payload",
        title="Large models, RabbitMQ with mutual TLS, sealed chunks",
    )
    cpu, idle, added = one["cpu_s_per_round"], one["idle_rss_mb"], one["added_rss_mb"]
    table.add_row(
        f"{one['model_mib']} x {one['nodes']}",
        f"{one['round_s']['best']:.1f}",
        f"{sum(cpu.values()):.1f}",
        f"{one['cpu_per_tcp']:.1f}",
        f"{one['times_tcp']:.1f}",
        f"{one['times_memcpy']:.1f}",
        *(f"{cpu[kind]:.1f}, {idle.get(kind, 0):.0f} + {added[kind]:.0f}" for kind in KINDS),
        f"{one['wire_per_payload']:.3f}",
    )
    return one, table


def measure(mib: int, nodes: int, rounds: int) -> dict[str, Any]:
    """Run rounds with a model of so many MiB and return the figures.

    Time, CPU and bytes of the first round are not counted: workers load torch then. Memory is what each process held idle before that
    round, and the kernel's peak over all rounds beyond that; of several processes of a kind, that of the one that needed most.
    A worker holds nothing before: all that it holds is added. The researcher's script makes the first model itself, in its first
    round: what that takes is told apart from what the rounds after it add.
    """
    machine = yardstick.measure()
    with (
        tempfile.TemporaryDirectory(prefix="warren-bench-") as folder,
        Trial(Path(folder), nodes, mib * yardstick.MIB // 4) as trial,
    ):
        idle = Watch()
        trial.run(1)
        warm_up = idle.read()
        sent = wire_bytes(trial.world)
        outcome = trial.run(rounds)
        sent = wire_bytes(trial.world) - sent
    times = [record.duration_s or 0.0 for record in outcome.records]
    model_mb = mib * yardstick.MIB / 1e6
    moved_mb = 2 * nodes * model_mb  # what nodes get and give
    stored_mb = model_mb + 3 * nodes * model_mb  # in and out of the broker: the model goes in once
    used = outcome.used
    peaks = {kind: max(used.peak_mb[kind], warm_up.peak_mb[kind]) for kind in KINDS}
    peaks["researcher"] = used.peak_mb["researcher"]
    cpu = {kind: used.cpu_s[kind] / rounds for kind in KINDS}
    return {
        "model_mib": mib,
        "nodes": nodes,
        "rounds": rounds,
        "round_s": {"best": min(times), "median": sorted(times)[len(times) // 2]},
        "times_tcp": min(times) / (moved_mb / machine["loopback_mb_s"]),
        "times_memcpy": min(times) / (moved_mb / machine["memcpy_mb_s"]),
        "cpu_s_per_round": cpu,
        "cpu_ms_per_mb": 1000 * sum(cpu.values()) / moved_mb,
        "cpu_per_tcp": sum(cpu.values()) * 1000 / moved_mb / machine["loopback_cpu_ms_mb"],
        "idle_rss_mb": warm_up.idle_mb,
        "added_rss_mb": {kind: peaks[kind] - warm_up.idle_mb.get(kind, 0.0) for kind in KINDS},
        "first_model_mb": warm_up.added_mb["researcher"],
        "peak_rss_mb": peaks,
        "wire_mb_per_round": sent / rounds / 1e6,
        "wire_per_payload": sent / rounds / 1e6 / stored_mb,
        "steps_s": steps(outcome.records),
        "machine": machine,
    }
