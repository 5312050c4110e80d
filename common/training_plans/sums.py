"""Let nodes send statistics that add up to what pooled data would give."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypeVar

from common.data import Loader
from common.errors import InvalidArgumentsError
from common.messages import LossPoint
from common.payload.header import SUMS
from common.training_args import TrainingArgs
from common.training_plans.guard import PlanCode
from common.training_plans.tensors import HeldPlan, ModelArguments
from common.training_plans.training import pair

A = TypeVar("A", bound=ModelArguments, default=ModelArguments)


class SumPlan(HeldPlan[A]):
    """A plan of which each node sends sums over its own samples, and one aggregator adds them up.

    In a round each node passes over its training part once, so the training arguments are `{"epochs": 1}`. The sums are float64 tensors whose
    names begin with `sum.`; `sum.samples` is among them.
    """

    aggregator = "SumStatistics"

    @abstractmethod
    def first_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the first model besides `sum.samples`, float64; those that hold sums begin with `sum.`."""

    @abstractmethod
    def statistics(self, data: Any, target: Any) -> Mapping[str, Tensor]:
        """Return what a batch adds to each sum besides `sum.samples`, by its name without `sum.`."""

    def build(self) -> None:
        """Make the first model."""
        self._params = self.first_tensors() | {f"{SUMS}samples": _zeros()}

    def prepare(self, *, model_args: Mapping[str, Any], training_args: TrainingArgs) -> None:
        """Build the model; see `TensorPlan.prepare`.

        Raises:
            InvalidArgumentsError: If the training arguments ask for anything but one pass over the data.
        """
        _require_one_pass(training_args)
        super().prepare(model_args=model_args, training_args=training_args)

    def train(self, loader: Loader, report: Callable[[LossPoint], None]) -> int:
        """Add up the statistics of the training part and return the number of its samples.

        Raises:
            PlanFailedError: If a line of the plan raises; says which.
            PlanContractError: If data or statistics have the wrong shape, or a sample would not count.
        """
        sums = {
            name: torch.zeros_like(value) for name, value in self._params.items() if name.startswith(SUMS)
        }
        loss = 0.0
        with torch.no_grad(), PlanCode(type(self), "statistics"):
            for data, target in self.pieces(loader):
                given = self.statistics(data, target)
                loss += self.loss_of(data, target, given)
                for name, value in (*given.items(), ("samples", torch.tensor(float(len(target))))):
                    sums[SUMS + name] += value
        samples = int(sums[f"{SUMS}samples"])
        if samples != loader.samples or not samples:
            self.breaks_contract(
                "training_data", f"gives {samples} of {loader.samples} samples, and every one must count"
            )
        self._params = {**self._params, **sums}
        mean = loss / samples
        report(LossPoint(iteration=1, epoch=0, samples=samples, loss=mean if math.isfinite(mean) else None))
        return samples

    def loss_of(self, data: Any, target: Any, given: Mapping[str, Tensor]) -> float:  # noqa: ARG002 - for plans whose statistics hold it
        """Return the loss of a batch, summed over its samples, whose statistics are given."""
        return float(self.training_step(data, target)) * len(target)

    def pieces(self, loader: Loader) -> Iterable[tuple[Any, Any]]:
        """Yield the training part in pieces of which the statistics add up."""
        for batch in loader:
            yield pair(self, batch)


def _require_one_pass(args: TrainingArgs) -> None:
    problems = []
    if args.epochs != 1:
        problems.append("  epochs: should be 1, as sums are taken in one pass over the data")
    problems += [
        f"  {name}: leave it out, as sums are taken in one pass over the data"
        for name in ("num_updates", "batch_maxnum", "dry_run", "fedprox_mu")
        if getattr(args, name)
    ]
    if problems:
        raise InvalidArgumentsError(problems="\n".join(problems))


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)
