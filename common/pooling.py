"""Add up the statistics of several nodes, and derive metrics as if all their samples lay in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.messages import (
    CalibrationBin,
    ClassStatistics,
    ColumnMoments,
    ColumnSums,
    ProbabilitySums,
    Statistics,
    ValueStatistics,
)

AUC: Final = "ROC_AUC"
"""The one metric that statistics give within a bound and not exactly."""

Counts = NDArray[np.float64]


def pooled(parts: Sequence[Statistics]) -> Statistics | None:
    """Return the statistics of all cases together, or None if there are none or they are not of one kind.

    A matrix with fewer classes counts as one that lacks cases of the others. What only some parts have is left out. Counts add up
    exactly, sums to rounding (Chan, Golub and LeVeque, 1979, for squared differences from a mean).
    """
    classes = [one for one in parts if isinstance(one, ClassStatistics)]
    values = [one for one in parts if isinstance(one, ValueStatistics)]
    if classes and not values:
        size = max(len(one.confusion) for one in classes)
        total = np.zeros((size, size), np.int64)
        for one in classes:
            total[: len(one.confusion), : len(one.confusion)] += np.array(one.confusion)
        known = [one.probabilities for one in classes if one.probabilities is not None]
        # two classes are scored otherwise than more
        alike = len({len(one.confusion) for one in classes}) == 1 and len(known) == len(classes)
        return ClassStatistics(
            confusion=tuple(map(tuple, total.tolist())),
            probabilities=_probabilities(known) if alike else None,
        )
    if values and not classes and len({len(one.columns) for one in values}) == 1:
        columns = zip(*(one.columns for one in values), strict=True)
        return ValueStatistics(columns=tuple(map(_column, columns)))
    return None


def pooled_moments(parts: Sequence[Sequence[ColumnMoments]]) -> tuple[ColumnMoments, ...]:
    """Return the moments of all rows of several nodes together, by the names of the columns; the order of the nodes does not matter.

    With n, m and s the count, mean and spread of each node: the mean is sum(n m) / sum(n), the spread sum(s + n (m - mean)^2) (Chan, Golub
    and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979, eq. 2.1). No term is a difference of large sums.
    """
    columns: dict[str, list[ColumnMoments]] = {}
    for one in (one for part in parts for one in part):
        columns.setdefault(one.name, []).append(one)
    whole = []
    for name, same in sorted(columns.items()):
        weights = [one.count for one in same]
        mean, spread = _merged(weights, [one.mean for one in same], [one.spread for one in same])
        whole.append(ColumnMoments(name=name, count=sum(weights), mean=mean, spread=spread))
    return tuple(whole)


def metrics_of(statistics: Statistics, average: str | None = None) -> dict[str, float | None]:
    """Return all metrics that statistics give; one that is not defined for them is None.

    Args:
        statistics: Of one node, or of several that were added up.
        average: Of precision, recall and F1 over classes, as for `test_metric_args`.

    Returns:
        Of a classification `ACCURACY`, `PRECISION`, `RECALL`, `F1_SCORE` and, if there are probabilities, `LOG_LOSS`,
        `BRIER_SCORE`, `CALIBRATION_ERROR` (the expected one, Naeini et al., AAAI 2015) and, of two classes, `ROC_AUC`. Of a
        regression `MEAN_SQUARE_ERROR`, `MEAN_ABSOLUTE_ERROR`, `R2_SCORE`, `EXPLAINED_VARIANCE`, each the mean over columns.
    """
    if isinstance(statistics, ValueStatistics):
        return _of_values(statistics)
    confusion = np.array(statistics.confusion, dtype=np.float64)
    hits, claimed, present = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    cases = statistics.cases
    if not cases:
        return {"ACCURACY": None, "PRECISION": None, "RECALL": None, "F1_SCORE": None}
    metrics: dict[str, float | None] = {"ACCURACY": float(hits.sum() / cases)}
    for name in ("PRECISION", "RECALL", "F1_SCORE"):
        metrics[name] = averaged(name, hits, claimed, present, average)
    known = statistics.probabilities
    if known is not None:
        gaps = sum(abs(one.confidence - one.hits) for one in known.calibration)
        metrics |= {
            "LOG_LOSS": known.log_loss / cases,
            "BRIER_SCORE": known.brier / cases,
            "CALIBRATION_ERROR": gaps / cases,
        }
        if known.scores is not None:
            metrics[AUC] = _auc(*known.scores)[0]
    return metrics


def auc_bound(statistics: Statistics) -> float | None:
    """Return how far the area under the ROC curve of these statistics may be from that of the single scores, if there is one.

    Pairs of a case of each class in one bin count a half, and may count anything from 0 to 1: so half their share is the bound.
    """
    known = statistics.probabilities if isinstance(statistics, ClassStatistics) else None
    return None if known is None or known.scores is None else _auc(*known.scores)[1]


def averaged(metric: str, hits: Counts, claimed: Counts, present: Counts, average: str | None) -> float:
    """Return `PRECISION`, `RECALL` or `F1_SCORE` of counts for each class, from class 0 on; a ratio without any case is 0.

    Args:
        metric: Which.
        hits: Cases of the class that were predicted to be of it.
        claimed: Cases that were predicted to be of it.
        present: Cases of it.
        average: `binary` is about class 1 alone; `macro`, `micro` and `weighted` are over the classes that are there. `binary`
            if not given and no class but 0 and 1 is there, else `macro`.
    """
    there = (claimed + present) > 0
    average = average or ("macro" if there[2:].any() else "binary")
    if average == "binary":
        there = np.arange(len(there)) == 1
    hits, claimed, present = hits[there], claimed[there], present[there]
    if average == "micro":
        hits, claimed, present = (np.array([values.sum()]) for values in (hits, claimed, present))
    whole = {"PRECISION": claimed, "RECALL": present, "F1_SCORE": (claimed + present) / 2}[metric]
    ratios = np.divide(hits, whole, out=np.zeros_like(hits), where=whole > 0)
    return float(np.average(ratios, weights=present if average == "weighted" and present.any() else None))


def _probabilities(parts: Sequence[ProbabilitySums]) -> ProbabilitySums:
    bins = zip(*(one.calibration for one in parts), strict=True)
    scores = [one.scores for one in parts if one.scores is not None]
    return ProbabilitySums(
        log_loss=math.fsum(one.log_loss for one in parts),
        brier=math.fsum(one.brier for one in parts),
        calibration=tuple(
            CalibrationBin(
                cases=sum(one.cases for one in same),
                confidence=math.fsum(one.confidence for one in same),
                hits=sum(one.hits for one in same),
            )
            for same in bins
        ),
        scores=(_added([one[0] for one in scores]), _added([one[1] for one in scores]))
        if len(scores) == len(parts)
        else None,
    )


def _added(histograms: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*histograms, strict=True)))


def _column(parts: Sequence[ColumnSums]) -> ColumnSums:
    weights = [one.cases for one in parts]
    target = _merged(weights, [one.target_mean for one in parts], [one.target_spread for one in parts])
    error = _merged(weights, [one.error_mean for one in parts], [one.error_spread for one in parts])
    return ColumnSums(
        cases=sum(weights),
        target_mean=target[0],
        target_spread=target[1],
        error_mean=error[0],
        error_spread=error[1],
        absolute_error=math.fsum(one.absolute_error for one in parts),
    )


def _merged(weights: Sequence[int], means: Sequence[float], spreads: Sequence[float]) -> tuple[float, float]:
    """Return mean and spread of groups together, whatever their order."""
    cases = sum(weights)
    mean = math.fsum(m * n for m, n in zip(means, weights, strict=True)) / cases if cases else 0.0
    between = (n * (m - mean) ** 2 for m, n in zip(means, weights, strict=True))
    return mean, math.fsum([*spreads, *between])


def _of_values(statistics: ValueStatistics) -> dict[str, float | None]:
    columns, cases = statistics.columns, statistics.cases
    squares = [one.error_spread + one.cases * one.error_mean**2 for one in columns]

    def mean(values: Sequence[float]) -> float | None:
        return math.fsum(values) / len(values) if cases else None

    def explained(left: Sequence[float]) -> float | None:
        pairs = zip(left, (one.target_spread for one in columns), strict=True)
        return mean([1 - rest / whole if whole > 0 else float(rest == 0) for rest, whole in pairs])

    return {
        "MEAN_SQUARE_ERROR": mean([one / max(cases, 1) for one in squares]),
        "MEAN_ABSOLUTE_ERROR": mean([one.absolute_error / max(cases, 1) for one in columns]),
        "R2_SCORE": explained(squares) if cases > 1 else None,
        "EXPLAINED_VARIANCE": explained([one.error_spread for one in columns]),
    }


def _auc(negatives: Sequence[int], positives: Sequence[int]) -> tuple[float | None, float | None]:
    """Return the area under the ROC curve and its bound; none if a class has no case."""
    low: Any = np.array(negatives, dtype=np.float64)
    high: Any = np.array(positives, dtype=np.float64)
    pairs = low.sum() * high.sum()
    if not pairs:
        return None, None
    tied = float((low * high).sum())
    below = float((high * (low.cumsum() - low)).sum())
    return (below + tied / 2) / float(pairs), tied / 2 / float(pairs)
