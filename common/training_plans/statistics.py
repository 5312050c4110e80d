"""Count and add up what a validation saw, so that metrics over several nodes can be made of it."""

from __future__ import annotations

from typing import Final

import numpy as np

from common.messages import (
    CalibrationBin,
    ClassStatistics,
    ColumnSums,
    ProbabilitySums,
    Statistics,
    ValueStatistics,
)
from common.messages.statistics import CALIBRATION_BINS, CLASSES, COLUMNS, SCORE_BINS, SCORE_LIMIT
from common.training_args import Metric
from common.training_plans.metrics import REGRESSION
from common.training_plans.probabilities import (
    Array,
    brier,
    flat,
    log_losses,
    log_odds,
    log_probabilities,
    predictions,
)

_TWO: Final = 2


def summarise(metric: Metric, outputs: Array, targets: Array) -> Statistics | None:
    """Return the statistics of outputs and targets that fit, or None if they have none.

    That is so with more classes or columns than a message may hold, with class numbers that the outputs have no score for, and
    where an output is not finite.

    Args:
        metric: Says whether it is about classes or about values.
        outputs: As for `compute`.
        targets: As for `compute`.
    """
    if not np.isfinite(outputs).all() or not np.isfinite(targets).all():
        return None
    if metric in REGRESSION:
        return _values(outputs.reshape(targets.shape).astype(np.float64), targets.astype(np.float64))
    scores, actual = flat(outputs, targets)
    count = _TWO if scores.ndim == 1 else scores.shape[1]
    # sizes come before anything is allocated for them
    if not _TWO <= count <= CLASSES or actual.min(initial=0) < 0 or actual.max(initial=0) >= count:
        return None
    predicted = predictions(scores)
    confusion = np.bincount(actual * count + predicted, minlength=count * count).reshape(count, count)
    known = log_probabilities(scores)
    return ClassStatistics(
        confusion=tuple(map(tuple, confusion.tolist())),
        probabilities=_probabilities(known, predicted, actual),
    )


def _probabilities(known: Array, predicted: Array, actual: Array) -> ProbabilitySums:
    two = known.shape[1] == _TWO
    sure = np.exp(known[:, 1] if two else known.max(axis=1))
    right = actual == 1 if two else predicted == actual
    place = np.minimum((sure * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    bins = zip(
        np.bincount(place, minlength=CALIBRATION_BINS).tolist(),
        np.bincount(place, weights=sure, minlength=CALIBRATION_BINS).tolist(),
        np.bincount(place[right], minlength=CALIBRATION_BINS).tolist(),
        strict=True,
    )
    return ProbabilitySums(
        log_loss=max(0.0, float(log_losses(known, actual).sum())),
        brier=float(brier(known, actual).sum()),
        calibration=tuple(CalibrationBin(cases=n, confidence=total, hits=hits) for n, total, hits in bins),
        scores=(_histogram(log_odds(known)[actual == 0]), _histogram(log_odds(known)[actual == 1]))
        if two
        else None,
    )


def _histogram(odds: Array) -> tuple[int, ...]:
    place = np.floor(
        (np.clip(odds, -SCORE_LIMIT, SCORE_LIMIT) + SCORE_LIMIT) * SCORE_BINS / (2 * SCORE_LIMIT)
    )
    counts = np.bincount(np.minimum(place, SCORE_BINS - 1).astype(np.int64), minlength=SCORE_BINS)
    return tuple(counts.tolist())


def _values(outputs: Array, targets: Array) -> ValueStatistics | None:
    cases = len(targets)
    if not cases or not 1 <= targets.size // cases <= COLUMNS:
        return None
    actual = targets.reshape(cases, -1)
    error = actual - outputs.reshape(cases, -1)
    return ValueStatistics(
        columns=tuple(
            ColumnSums(
                cases=cases,
                target_mean=float(target.mean()),
                target_spread=float(np.square(target - target.mean()).sum()),
                error_mean=float(off.mean()),
                error_spread=float(np.square(off - off.mean()).sum()),
                absolute_error=float(np.abs(off).sum()),
            )
            for target, off in zip(actual.T, error.T, strict=True)
        )
    )
