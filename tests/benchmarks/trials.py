"""Run rounds of a vector of any size in a federation, and account for what they cost."""

from __future__ import annotations

import struct
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.training_plans.source import plan_source
from researcher import Experiment, FedAverage
from researcher.history import RoundRecord
from researcher.holdings import Holdings
from researcher.ledger import Ledger
from tests.benchmarks.big_vector import BigVector
from tests.benchmarks.processes import Used, Watch
from tests.support.world import TAG, World

TABLE = "x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(16))
TRAINING = {"num_updates": 1, "loader_args": {"batch_size": 16}}


@dataclass(frozen=True)
class Outcome:
    """Rounds that were run, and what they cost together."""

    records: list[RoundRecord]
    used: Used


class Trial:
    """One experiment in a federation of its own; node N adds N + 1 to every parameter."""

    def __init__(self, folder: Path, nodes: int, parameters: int, *, world: type[World] = World) -> None:
        """Start everything.

        Args:
            folder: Where everything goes.
            nodes: How many nodes.
            parameters: Size of the model, in float32.
            world: What kind of federation.
        """
        names = [f"node{number}" for number in range(nodes)]
        self._nodes = nodes
        self._stack = ExitStack()
        made = world(folder, names, table=TABLE, plan=plan_source(BigVector), plan_name="BigVector")
        self.world = self._stack.enter_context(made)
        try:
            self.experiment = Experiment(
                tags=[TAG],
                training_plan_class=BigVector,
                training_args=TRAINING,
                model_args={"parameters": parameters},
                round_limit=10_000,  # it goes on: the workers stay
                aggregator=FedAverage(),
                federation=made.start().enter(),
                observers=(),
            )
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self.experiment.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, rounds: int) -> Outcome:
        """Run so many more rounds.

        Raises:
            RuntimeError: If the model is not what it must be.
        """
        before = self.experiment.round_current()
        watch = Watch()
        self.experiment.run(rounds)
        used = watch.read()
        self._check(before + rounds)
        return Outcome(self.experiment.history().training[before:], used)

    def _check(self, rounds: int) -> None:
        expected = rounds * (self._nodes + 1) / 2
        record = self.experiment.history().training[-1]
        folder = self.experiment.folder
        with (
            closing(Ledger.open(folder)) as ledger,
            Holdings(ledger, folder).file(record.model) as model,
            model.open("rb") as file,
        ):
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            (found,) = struct.unpack("<f", file.read(4))
        if found != expected:
            raise RuntimeError(f"a parameter is {found} instead of {expected}")


def steps(records: list[RoundRecord]) -> dict[str, Any]:
    """Return the seconds that each step took: at the researcher in the quickest round, at the slowest node of all."""
    return {
        "researcher": {
            step: min(record.timings.get(step, 0.0) for record in records)
            for step in ("broadcast_s", "collect_s", "aggregate_s", "save_s")
        },
        "node": {
            step: max(
                getattr(one.timings, step)
                for record in records
                for one in record.nodes.values()
                if one.timings
            )
            for step in ("waited_s", "loaded_s", "trained_s", "saved_s")
        },
    }
