"""Measure rounds with models that are large: time, CPU, memory, and bytes on the wire."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common.training_plans.source import plan_source
from researcher import Experiment, FedAverage
from tests.benchmarks import yardstick
from tests.benchmarks.big_vector import BigVector
from tests.benchmarks.processes import Watch, wire_bytes
from tests.support.world import TAG, World

TABLE = "x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(16))
TRAINING = {"num_updates": 1, "loader_args": {"batch_size": 16}}
DEADLINE_S = 1800.0


def measure(mib: int, nodes: int, rounds: int = 3) -> dict[str, Any]:
    """Run rounds with a model of so many MiB, each node with an update of its own, and return the figures.

    The first round is not counted: workers load torch then. Memory is counted beyond what each process held idle, after
    that round; the peak is the kernel's own.
    """
    parameters = mib * yardstick.MIB // 4
    names = [f"node{number}" for number in range(nodes)]
    machine = yardstick.measure(mib)
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder:
        world = World(Path(folder), names, table=TABLE, plan=plan_source(BigVector), plan_name="BigVector")
        with world, world.start().enter() as place:
            experiment = Experiment(
                tags=[TAG],
                training_plan_class=BigVector,
                training_args=TRAINING,
                model_args={"parameters": parameters},
                round_limit=rounds + 2,  # it goes on: the workers stay
                aggregator=FedAverage(),
                federation=place,
                observers=(),
            )
            experiment.run(1)
            sent = wire_bytes(world)
            watch = Watch()
            experiment.run(rounds)
            used = watch.read()
            sent = wire_bytes(world) - sent
            records = experiment.history().training[1:]
            first = _first_parameter(experiment)
            experiment.close()
    expected = (rounds + 1) * (nodes + 1) / 2
    if first != expected:
        raise RuntimeError(f"the model is wrong: {first} instead of {expected}")
    times = [record.duration_s or 0.0 for record in records]
    moved = mib * 1.048576 * (1 + nodes)  # what a researcher sends and receives at least
    return {
        "model_mib": mib,
        "nodes": nodes,
        "rounds": rounds,
        "round_s": {"best": min(times), "median": sorted(times)[len(times) // 2]},
        "researcher_mb_s": moved / min(times),
        "cpu_s_per_round": {kind: seconds / rounds for kind, seconds in used.cpu_s.items()},
        "peak_rss_mb": used.peak_mb,
        "added_rss_mb": used.added_mb,
        "wire_mb_per_round": sent / rounds / 1e6,
        "payload_mb_per_round": 2 * mib * 1.048576 * nodes,
        "steps_s": {
            step: min(record.timings.get(step, 0.0) for record in records)
            for step in ("broadcast_s", "collect_s", "aggregate_s", "save_s")
        },
        "node_steps_s": {
            step: max(
                getattr(node.timings, step)
                for record in records
                for node in record.nodes.values()
                if node.timings
            )
            for step in ("waited_s", "loaded_s", "trained_s", "saved_s")
        },
        "machine": machine,
    }


def _first_parameter(experiment: Experiment) -> float:
    folder, model = experiment.folder, experiment.history().training[-1].model
    data = (folder / "payloads" / model).open("rb")
    with data:
        header = 8 + int.from_bytes(data.read(8), "little")
        data.seek(header)
        import struct

        return struct.unpack("<f", data.read(4))[0]
