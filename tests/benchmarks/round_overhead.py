"""What a round costs beyond the training itself: a model of 1,000 parameters, a plan that only adds one."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from common.training_plans.source import plan_source
from researcher import Experiment, FedAverage
from tests.benchmarks.add_one import AddOne
from tests.benchmarks.processes import Watch
from tests.support.world import TAG, World

TABLE = "x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(16))
WARM_UP = 3
KINDS = ("agent", "worker", "researcher", "broker")


def run(*, quick: bool) -> tuple[list[dict[str, Any]], Table]:
    """Measure with 2, 4 and 8 nodes."""
    found = [measure(nodes, 20 if quick else 100) for nodes in (2, 4, 8)]
    table = Table(
        *("nodes", "median ms", "p90 ms", "task p50 ms", "task p99 ms", "start to start ms", "CPU ms"),
        *(f"{kind} CPU ms, MB" for kind in KINDS),
        "first round s",
        title="Round overhead, 1,000 parameters, RabbitMQ with mutual TLS",
    )
    for one in found:
        cpu, peak, took, task = one["cpu_ms_per_round"], one["peak_rss_mb"], one["round_ms"], one["task_ms"]
        table.add_row(
            f"{one['nodes']}",
            f"{took['median']:.1f}",
            f"{took['p90']:.1f}",
            f"{task['p50']:.1f}",
            f"{task['p99']:.1f}",
            f"{took['between_starts']:.1f}",
            f"{cpu['all']:.1f}",
            *(f"{cpu.get(kind, 0):.1f}, {peak.get(kind, 0):.0f}" for kind in KINDS),
            f"{one['first_round_s']['closed']:.1f}",
        )
    return found, table


def measure(nodes: int, rounds: int, *, parameters: int = 1000) -> dict[str, Any]:
    """Run so many rounds at so many nodes and return the figures."""
    names = [f"node{number}" for number in range(nodes)]
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder:
        world = World(Path(folder), names, table=TABLE, plan=plan_source(AddOne), plan_name="AddOne")
        launched = time.time()
        with world, world.start().enter() as place:
            experiment = Experiment(
                tags=[TAG],
                training_plan_class=AddOne,
                training_args={"num_updates": 1},
                model_args={"parameters": parameters},
                round_limit=WARM_UP + rounds + 1,  # it goes on: the workers stay
                aggregator=FedAverage(),
                federation=place,
                observers=(),
            )
            experiment.run(WARM_UP)
            watch, started = Watch(), time.perf_counter()
            experiment.run(rounds)
            wall = time.perf_counter() - started
            used = watch.read()
            records = experiment.history().training
            experiment.close()
    cpu = {kind: seconds / rounds * 1000 for kind, seconds in used.cpu_s.items()}
    times = sorted((record.duration_s or 0.0) * 1000 for record in records[WARM_UP:])
    trips = sorted(node.answered_s * 1000 for record in records[WARM_UP:] for node in record.nodes.values())
    return {
        "nodes": nodes,
        "rounds": rounds,
        "round_ms": {
            "median": statistics.median(times),
            "p90": times[int(0.9 * len(times))],
            "between_starts": wall / rounds * 1000,
        },
        "task_ms": {"p50": statistics.median(trips), "p99": trips[int(0.99 * len(trips))]},
        "cpu_ms_per_round": {"all": sum(cpu.values()), **cpu},
        "peak_rss_mb": used.peak_mb,
        "steps_ms": {
            step: statistics.median(record.timings.get(step, 0.0) for record in records[WARM_UP:]) * 1000
            for step in ("broadcast_s", "collect_s", "aggregate_s", "save_s")
        },
        "node_steps_ms": {
            step: statistics.median(
                getattr(node.timings, step)
                for record in records[WARM_UP:]
                for node in record.nodes.values()
                if node.timings
            )
            * 1000
            for step in ("waited_s", "loaded_s", "trained_s", "saved_s")
        },
        "first_round_s": {
            "opened": records[0].opened_at - launched,
            "closed": (records[0].closed_at or 0.0) - launched,
        },
    }
