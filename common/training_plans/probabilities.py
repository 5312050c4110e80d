"""Read the outputs of a classifier: as classes, and as probabilities; in float64 and without rounding any to 0 or 1."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_TOLERANCE: Final = 1e-5
"""How far probabilities in float32 may be from a sum of 1."""
_LEAST: Final = float(np.finfo(np.float64).eps)
"""A probability that was given as 0 counts as this, as in scikit-learn; logits need no such floor."""
_TWO: Final = 2


def flat(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Return scores and class numbers of all cases that fit: a vector of logits, or a matrix with a column for each class."""
    actual = targets.ravel().astype(np.int64)
    scores = outputs.astype(np.float64)
    if outputs.size == targets.size:
        return scores.ravel(), actual
    return np.moveaxis(scores, 1, -1).reshape(-1, outputs.shape[1]), actual


def predictions(scores: Array) -> Array:
    """Return the class of each case: the one with the highest score, or class 1 for a logit above 0."""
    return (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)


def log_probabilities(scores: Array) -> Array:
    """Return the logarithms of the probabilities of all classes, one row for each case; a vector of logits gives two classes.

    A matrix whose rows are probabilities is taken as that, any other as logits (softmax).
    """
    if scores.ndim == 1:
        return np.stack([-np.logaddexp(0, scores), -np.logaddexp(0, -scores)], axis=1)
    if scores.size and scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1, rtol=0, atol=_TOLERANCE):
        scores = np.log(np.clip(scores, _LEAST, 1))
    shifted: Array = scores - scores.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def log_losses(known: Array, actual: Array) -> Array:
    """Return the negative log-likelihood of each case."""
    losses: Array = -known[np.arange(len(actual)), actual]
    return losses


def brier(known: Array, actual: Array) -> Array:
    """Return the squared differences of each case: of the probability of class 1 if there are two classes, else over all classes."""
    misses: Array = np.exp(known) - np.eye(known.shape[1])[actual]
    return np.square(misses[:, 1]) if known.shape[1] == _TWO else np.square(misses).sum(axis=1)


def log_odds(known: Array) -> Array:
    """Return the log-odds of class 1 against class 0; not a number unless there are two classes."""
    odds: Array = known[:, 1] - known[:, 0] if known.shape[1] == _TWO else np.full(len(known), np.nan)
    return odds
