"""Compute the metrics of Fed-BioMed over a whole test part, with numpy alone and as scikit-learn defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InvalidArgumentsError
from common.training_args import Metric

Array = NDArray[Any]

_AVERAGES: Final = ("binary", "macro", "micro", "weighted")


def fits(metric: Metric, outputs: Array, targets: Array) -> bool:
    """Say whether outputs and targets of these shapes belong together."""
    scores = outputs.ndim > 1 and outputs.shape[1] > 0 and outputs.size // outputs.shape[1] == targets.size
    return outputs.size == targets.size or (scores and metric not in _REGRESSION)


def compute(metric: Metric, outputs: Array, targets: Array, args: Mapping[str, Any]) -> float:
    """Return one metric of outputs and targets that fit.

    Args:
        metric: Its name.
        outputs: For classification scores `(n, classes, ...)`, of which the highest wins, or logits of the shape of the targets, of which
            those above 0 mean class 1. For regression the predictions, in the shape of the targets.
        targets: Class numbers, or values.
        args: `average` for precision, recall and F1: binary (the default for classes 0 and 1), macro (the default otherwise), micro or
            weighted. A ratio without any case counts as 0.

    Raises:
        InvalidArgumentsError: If `args` holds anything else.
    """
    average = args.get("average")
    if args.keys() - {"average"} or average not in (None, *_AVERAGES):
        raise InvalidArgumentsError(
            problems=f"  test_metric_args: takes `average` alone, one of {', '.join(_AVERAGES)}"
        )
    if metric in _REGRESSION:
        return _REGRESSION[metric](
            outputs.reshape(targets.shape).astype(np.float64), targets.astype(np.float64)
        )
    predicted, actual = _classes(outputs, targets)
    if metric == "ACCURACY":
        return float((predicted == actual).mean())
    return _averaged(metric, predicted, actual, average)


def _classes(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Return the predicted and the actual class of each sample."""
    actual = targets.ravel().astype(np.int64)
    if outputs.size == targets.size:
        return (outputs.ravel() > 0).astype(np.int64), actual
    return outputs.argmax(axis=1).ravel(), actual


def _averaged(metric: Metric, predicted: Array, actual: Array, average: str | None) -> float:
    classes = np.union1d(predicted, actual)
    average = average or ("binary" if set(classes.tolist()) <= {0, 1} else "macro")
    if average == "binary":
        classes = np.array([1])
    hits = np.array([((predicted == one) & (actual == one)).sum() for one in classes], dtype=np.float64)
    claimed = np.array([(predicted == one).sum() for one in classes], dtype=np.float64)
    present = np.array([(actual == one).sum() for one in classes], dtype=np.float64)
    if average == "micro":
        hits, claimed, present = (np.array([values.sum()]) for values in (hits, claimed, present))
    parts = {"PRECISION": claimed, "RECALL": present, "F1_SCORE": (claimed + present) / 2}
    ratios = np.divide(hits, parts[metric], out=np.zeros_like(hits), where=parts[metric] > 0)
    return float(np.average(ratios, weights=present if average == "weighted" and present.any() else None))


def _explained_variance(outputs: Array, targets: Array) -> float:
    columns = (len(targets), -1)
    left = (targets - outputs).reshape(columns).var(axis=0)
    whole = targets.reshape(columns).var(axis=0)
    constant = np.where(left == 0, 1.0, 0.0)
    return float(np.where(whole > 0, 1 - left / np.where(whole > 0, whole, 1), constant).mean())


_REGRESSION: Final[Mapping[str, Callable[[Array, Array], float]]] = {
    "MEAN_SQUARE_ERROR": lambda outputs, targets: float(np.square(outputs - targets).mean()),
    "MEAN_ABSOLUTE_ERROR": lambda outputs, targets: float(np.abs(outputs - targets).mean()),
    "EXPLAINED_VARIANCE": _explained_variance,
}
