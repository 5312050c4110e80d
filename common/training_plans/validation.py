"""Validate a plan's model on the test part of a data set."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.data import Loader
from common.messages import Statistics
from common.training_args import Metric, TrainingArgs
from common.training_plans.guard import PlanCode
from common.training_plans.metrics import compute, fits
from common.training_plans.statistics import summarise
from common.training_plans.training import pair, samples_in

if TYPE_CHECKING:
    from common.training_plans.base import TrainingPlan

Metrics = dict[str, float | None]

_LONGEST_NAME: Final = 200


class Validated(NamedTuple):
    """What a validation found."""

    metrics: Metrics
    statistics: Statistics | None = None
    """The counts and sums that metrics over several nodes are made of."""


def validate(plan: TrainingPlan, loader: Loader, args: TrainingArgs) -> Validated:
    """Return the metrics of a plan's model over a whole part of a data set, without gradients.

    With a `testing_step`: the means of what it returns, weighted by the samples of each batch; a number is called `Custom`, a list
    gives `Custom_1`, `Custom_2` and so on, a dict its own names. Without: `loss`, the mean of `training_step`, and `test_metric`
    over all samples at once, which is accuracy unless targets are not whole numbers: then the mean square error. A value that
    is not finite becomes none. There are no statistics with a `testing_step`.

    Raises:
        PlanFailedError: If a line of the plan raises; says which.
        PlanContractError: If a method returns the wrong thing.
    """
    step = getattr(plan, "testing_step", None)
    with torch.no_grad(), PlanCode(type(plan), "testing_step" if step else "training_step"):
        metrics, statistics = (
            _default(plan, loader, args) if step is None else (_custom(plan, step, loader), None)
        )
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    return Validated(finite, statistics)


def _custom(plan: TrainingPlan, step: Any, loader: Loader) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    weights: dict[str, int] = defaultdict(int)
    for batch in loader:
        data, target = pair(plan, batch)
        weight = samples_in(data)
        for name, value in _named(plan, step(data, target)).items():
            sums[name] += value * weight
            weights[name] += weight
    return {name: total / weights[name] for name, total in sums.items()}


def _named(plan: TrainingPlan, result: Any) -> dict[str, float]:
    """Return what `testing_step` returned as numbers with names."""
    match result:
        case Mapping():
            named = dict(result)
        case list() | tuple():
            named = {f"Custom_{position}": value for position, value in enumerate(result, start=1)}
        case _:
            named = {"Custom": result}
    numbers = {}
    for name, value in named.items():
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            plan.breaks_contract("testing_step", "must name its metrics with short texts")
        if not _is_number(value):
            plan.breaks_contract("testing_step", f"must return numbers, not {type(value).__name__}")
        numbers[name] = float(value)
    return numbers


def _default(
    plan: TrainingPlan, loader: Loader, args: TrainingArgs
) -> tuple[dict[str, float], Statistics | None]:
    loss, samples = 0.0, 0
    outputs: list[NDArray[Any]] = []
    targets: list[NDArray[Any]] = []
    for batch in loader:
        data, target = pair(plan, batch)
        output = plan.predict(data)
        if not isinstance(output, Tensor) or not isinstance(target, Tensor):
            plan.breaks_contract(
                "predict", "and the targets must be tensors; otherwise the plan needs a testing_step"
            )
        outputs.append(output.double().numpy(force=True))
        targets.append((target.double() if target.is_floating_point() else target).numpy(force=True))
        weight = samples_in(data)
        loss += float(plan.training_step(data, target)) * weight
        samples += weight
    predicted, actual = np.concatenate(outputs), np.concatenate(targets)
    whole = not np.issubdtype(actual.dtype, np.floating) or bool((actual == np.floor(actual)).all())
    metric: Metric = args.test_metric or ("ACCURACY" if whole else "MEAN_SQUARE_ERROR")
    if not fits(metric, predicted, actual):
        problem = f"gives shape {list(outputs[0].shape)} for targets of shape {list(targets[0].shape)}"
        plan.breaks_contract("predict", problem)
    metrics = {"loss": loss / samples, metric: compute(metric, predicted, actual, args.test_metric_args)}
    return metrics, summarise(metric, predicted, actual)


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, bool | int | float | np.number)
