"""Train a plan's model for one round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from common.data import Loader
from common.messages import LossPoint
from common.training_args import TrainingArgs
from common.training_plans.descent import Descent, autocast
from common.training_plans.guard import PlanCode

if TYPE_CHECKING:
    from common.training_plans.base import TrainingPlan
    from common.training_plans.torch import TorchTrainingPlan


def train(
    plan: TorchTrainingPlan, loader: Loader, args: TrainingArgs, report: Callable[[LossPoint], None]
) -> int:
    """Train a prepared plan as its arguments say and return the number of samples seen, each time counted.

    With `num_updates` the loader goes on over epochs from where it stands, which `Parts.passes` decides. Loss points carry the mean
    of the plan's own loss over the batches since the last point, without the proximal term, every `log_interval` batches and at
    the end; one that is not finite is reported as none and training goes on.

    Raises:
        PlanFailedError: If a line of the plan raises; says which.
        PlanContractError: If a method returns the wrong thing, or there is no batch to train on.
    """
    optimizer = plan.start()
    descent = Descent(optimizer, args, plan.round(), plan.device_name())
    plan.model().train()
    proximal = _Proximal(plan, args.fedprox_mu) if args.fedprox_mu else None
    curve = Curve(args.log_interval, report)
    with PlanCode(type(plan), "training_step"):
        for epoch, batch in batches(plan, loader, args):
            data, target = pair(plan, batch)
            optimizer.zero_grad()
            with autocast(args, plan.device_name()):
                loss = plan.training_step(data, target)
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                plan.breaks_contract("training_step", "must return a scalar tensor with a gradient")
            descent.step(loss + proximal() if proximal else loss)
            curve.add(epoch, samples_in(data), loss.item())
    curve.finish()
    return curve.samples


def pair(plan: TrainingPlan, batch: Any) -> tuple[Any, Any]:
    """Return the input and the target of one batch.

    Raises:
        PlanContractError: If the batch is no such pair.
    """
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        plan.breaks_contract("training_data", "must give pairs of input and target")
    return batch[0], batch[1]


def samples_in(data: Any) -> int:
    """Return the number of samples in a batch: the length of the first thing in it."""
    if isinstance(data, Mapping):
        return samples_in(next(iter(data.values())))
    if isinstance(data, list | tuple) and data and not isinstance(data[0], str | bytes | int | float):
        return samples_in(data[0])
    return len(data)


def batches(plan: TrainingPlan, loader: Loader, args: TrainingArgs) -> Iterable[tuple[int, Any]]:
    """Return the batches of one round with the epoch that each belongs to."""
    epochs: Iterable[int] = range(args.epochs or 0)
    steps, steps_an_epoch = None, args.batch_maxnum
    if args.dry_run:
        epochs, steps = range(1), 1
    elif args.num_updates is not None:
        epochs, steps, steps_an_epoch = count(), args.num_updates, None
    if not len(loader) and steps != 0 and epochs != range(0):
        plan.breaks_contract("training_data", f"gives no batch out of {loader.samples} samples to train on")

    def stream() -> Iterator[tuple[int, Any]]:
        for epoch in epochs:
            for batch in islice(loader, steps_an_epoch):
                yield epoch, batch

    return islice(stream(), steps)


class Curve:
    """Adds up losses and reports their mean now and then."""

    def __init__(self, interval: int, report: Callable[[LossPoint], None]) -> None:
        self.samples = 0
        self._interval = interval
        self._report = report
        self._iteration = 0
        self._epoch = 0
        self._sum = 0.0
        self._count = 0

    def add(self, epoch: int, samples: int, loss: float) -> None:
        """Take note of one batch."""
        self._iteration += 1
        self._epoch = epoch
        self.samples += samples
        self._sum += loss
        self._count += 1
        if self._interval and self._iteration % self._interval == 0:
            self._emit()

    def finish(self) -> None:
        """Report what was not reported yet."""
        if self._count:
            self._emit()

    def _emit(self) -> None:
        mean = self._sum / self._count
        self._report(
            LossPoint(
                iteration=self._iteration,
                epoch=self._epoch,
                samples=self.samples,
                loss=mean if math.isfinite(mean) else None,
            )
        )
        self._sum, self._count = 0.0, 0


class _Proximal:
    """The term mu / 2 * |w - w_global|^2 of FedProx (Li et al., MLSys 2020, eq. 2), over the trainable parameters."""

    def __init__(self, plan: TorchTrainingPlan, mu: float) -> None:
        self._mu = mu
        self._parameters = [value for value in plan.model().parameters() if value.requires_grad]
        self._start = [value.detach().clone() for value in self._parameters]

    def __call__(self) -> Tensor:
        pairs = zip(self._parameters, self._start, strict=True)
        return self._mu / 2 * torch.stack([(now - then).square().sum() for now, then in pairs]).sum()
