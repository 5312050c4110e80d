"""Compute the metrics of Fed-BioMed over a whole test part, with numpy alone and as scikit-learn defines them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from common.errors import InvalidArgumentsError
from common.pooling import averaged
from common.training_args import Metric
from common.training_plans.probabilities import (
    Array,
    brier,
    flat,
    log_losses,
    log_odds,
    log_probabilities,
    predictions,
)

_AVERAGES: Final = ("binary", "macro", "micro", "weighted")


def fits(metric: Metric, outputs: Array, targets: Array) -> bool:
    """Say whether outputs and targets of these shapes belong together."""
    scores = outputs.ndim > 1 and outputs.shape[1] > 0 and outputs.size // outputs.shape[1] == targets.size
    return outputs.size == targets.size or (scores and metric not in REGRESSION)


def compute(metric: Metric, outputs: Array, targets: Array, args: Mapping[str, Any]) -> float:
    """Return one metric of outputs and targets that fit.

    Args:
        metric: Its name.
        outputs: For classification scores `(n, classes, ...)`, of which the highest wins, or logits of the shape of the targets, of which
            those above 0 mean class 1; rows of scores that are probabilities count as that. For regression the predictions, in the
            shape of the targets.
        targets: Class numbers, or values.
        args: `average` for precision, recall and F1: binary (the default for classes 0 and 1), macro (the default otherwise), micro or
            weighted. A ratio without any case counts as 0.

    Returns:
        The metric; not a number where it is not defined, as ROC_AUC is of one or of more than two classes.

    Raises:
        InvalidArgumentsError: If `args` holds anything else.
    """
    average = args.get("average")
    if args.keys() - {"average"} or average not in (None, *_AVERAGES):
        raise InvalidArgumentsError(
            problems=f"  test_metric_args: takes `average` alone, one of {', '.join(_AVERAGES)}"
        )
    if metric in REGRESSION:
        return REGRESSION[metric](
            outputs.reshape(targets.shape).astype(np.float64), targets.astype(np.float64)
        )
    scores, actual = flat(outputs, targets)
    if metric in _PROBABILITY:
        known = log_probabilities(scores)
        inside = actual.min(initial=0) >= 0 and actual.max(initial=0) < known.shape[1]
        return _PROBABILITY[metric](known, actual) if inside and known.shape[1] > 1 else math.nan
    predicted = predictions(scores)
    if metric == "ACCURACY":
        return float((predicted == actual).mean())
    return _averaged(metric, predicted, actual, average)


def _averaged(metric: Metric, predicted: Array, actual: Array, average: str | None) -> float:
    # class 1 is what a binary average is about, whatever other labels there are
    classes = np.concatenate([[0, 1], np.setdiff1d(np.union1d(predicted, actual), [0, 1])])
    hits = np.array([((predicted == one) & (actual == one)).sum() for one in classes], dtype=np.float64)
    claimed = np.array([(predicted == one).sum() for one in classes], dtype=np.float64)
    present = np.array([(actual == one).sum() for one in classes], dtype=np.float64)
    return averaged(metric, hits, claimed, present, average)


def _explained_variance(outputs: Array, targets: Array) -> float:
    columns = (len(targets), -1)
    return _explained((targets - outputs).reshape(columns).var(axis=0), targets.reshape(columns).var(axis=0))


def _r2(outputs: Array, targets: Array) -> float:
    columns = (len(targets), -1)
    if len(targets) < 2:
        return math.nan
    left = np.square((targets - outputs).reshape(columns)).mean(axis=0)
    return _explained(left, targets.reshape(columns).var(axis=0))


def _explained(left: Array, whole: Array) -> float:
    """Return the mean over columns of the share of the variance that is not left; of a constant, 1 if it is met and else 0."""
    constant = np.where(left == 0, 1.0, 0.0)
    return float(np.where(whole > 0, 1 - left / np.where(whole > 0, whole, 1), constant).mean())


def _roc_auc(known: Array, actual: Array) -> float:
    """Return the share of pairs of both classes that the log-odds put in order, ties counting a half; undefined without pairs."""
    odds = log_odds(known)
    if np.isnan(odds).any():
        return math.nan
    low, high = np.sort(odds[actual == 0]), odds[actual == 1]
    if not len(low) or not len(high):
        return math.nan
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.sum() / (2 * len(low) * len(high)))


REGRESSION: Final[Mapping[str, Callable[[Array, Array], float]]] = {
    "MEAN_SQUARE_ERROR": lambda outputs, targets: float(np.square(outputs - targets).mean()),
    "MEAN_ABSOLUTE_ERROR": lambda outputs, targets: float(np.abs(outputs - targets).mean()),
    "EXPLAINED_VARIANCE": _explained_variance,
    "R2_SCORE": _r2,
}
_PROBABILITY: Final[Mapping[str, Callable[[Array, Array], float]]] = {
    "LOG_LOSS": lambda known, actual: float(log_losses(known, actual).mean()),
    "BRIER_SCORE": lambda known, actual: float(brier(known, actual).mean()),
    "ROC_AUC": _roc_auc,
}
