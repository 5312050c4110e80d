"""Compute what the federated model is measured against, directly from the data of all hospitals.

Only the demo can do that: nowhere else does one machine hold the data of more than one hospital. Every model here is a
logistic regression, `intercept + features @ weights`, on features that each hospital standardised by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploy.demo.hospitals import Hospital

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LOCAL_RIDGE: Final = 0.01
"""Weight of half the squared weights, intercept included, in a model of one hospital alone, beside the mean log-loss.

All training patients of one hospital are ill, so without it the intercept would grow forever.
"""

_EPSILON: Final = 1e-9
_STEPS: Final = 100
_CONVERGED: Final = 1e-10


@dataclass(frozen=True, slots=True)
class Linear:
    """A logistic regression."""

    weights: Vector
    intercept: float

    def logits(self, features: Matrix) -> Vector:
        """Return the score of each row: above 0 means ill."""
        scores: Vector = features @ self.weights + self.intercept
        return scores


@dataclass(frozen=True, slots=True)
class Site:
    """One hospital, standardised with the mean and deviation of its own training part."""

    train: Matrix
    train_labels: Vector
    test: Matrix
    test_labels: Vector

    @classmethod
    def of(cls, hospital: Hospital) -> Site:
        """Standardise a hospital; deviations have ddof 1 and 1e-9 added."""
        known, held_back = ~hospital.test, hospital.test
        mean = hospital.features[known].mean(axis=0)
        deviation = hospital.features[known].std(axis=0, ddof=1) + _EPSILON
        scaled, labels = (hospital.features - mean) / deviation, hospital.labels.astype(np.float64)
        return cls(scaled[known], labels[known], scaled[held_back], labels[held_back])


@dataclass(frozen=True, slots=True)
class SiteScore:
    """How good a model is on the test patients of one hospital."""

    accuracy: float
    auc: float | None
    """None if all of them have the same label."""
    log_loss: float


@dataclass(frozen=True, slots=True)
class Scores:
    """How good one model is at all hospitals.

    Attributes:
        sites: On the test patients of each hospital.
        accuracy_mean: Mean of the hospitals' accuracies, each hospital counted once.
        auc_pooled: Of all test patients together.
        train_log_loss: Mean over all training patients: the objective itself.
        test_log_loss: Mean over all test patients.
    """

    sites: Mapping[str, SiteScore]
    accuracy_mean: float
    auc_pooled: float
    train_log_loss: float
    test_log_loss: float


def evaluate(model: Linear, sites: Mapping[str, Site]) -> Scores:
    """Score one model at all hospitals."""
    at_sites = {name: score(model, site) for name, site in sites.items()}
    pooled = _pooled(sites)
    auc_pooled = auc(model.logits(pooled.test), pooled.test_labels)
    assert auc_pooled is not None  # noqa: S101  the four hospitals together have patients of both kinds
    return Scores(
        sites=at_sites,
        accuracy_mean=float(np.mean([one.accuracy for one in at_sites.values()])),
        auc_pooled=auc_pooled,
        train_log_loss=log_loss(model.logits(pooled.train), pooled.train_labels),
        test_log_loss=log_loss(model.logits(pooled.test), pooled.test_labels),
    )


def score(model: Linear, site: Site) -> SiteScore:
    """Score a model on the test patients of one hospital."""
    logits = model.logits(site.test)
    return SiteScore(
        accuracy=accuracy(logits, site.test_labels),
        auc=auc(logits, site.test_labels),
        log_loss=log_loss(logits, site.test_labels),
    )


def pooled_optimum(sites: Mapping[str, Site]) -> Linear:
    """Return the model that minimises the mean log-loss over the training patients of all hospitals, without any penalty."""
    pooled = _pooled(sites)
    return fit(pooled.train, pooled.train_labels)


def local_model(site: Site) -> Linear:
    """Return what one hospital gets from its own training patients alone, with `LOCAL_RIDGE`."""
    return fit(site.train, site.train_labels, ridge=LOCAL_RIDGE)


def majority_accuracy(site: Site) -> float:
    """Return the accuracy of giving every test patient the commonest label of the hospital's training patients."""
    commonest = float(site.train_labels.mean() > 0.5)
    return float((site.test_labels == commonest).mean())


def fit(features: Matrix, labels: Vector, *, ridge: float = 0.0) -> Linear:
    """Minimise the mean log-loss plus `ridge / 2` times the squared weights, intercept included, by Newton's method.

    There must be a finite minimum: with a ridge there always is, without one when no plane separates the labels.
    """
    design = np.column_stack([np.ones(len(features)), features])
    solution = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = _sigmoid(design @ solution)
        gradient = design.T @ (chance - labels) / len(labels) + ridge * solution
        curvature = (design.T * (chance * (1 - chance))) @ design / len(labels) + ridge * np.eye(
            design.shape[1]
        )
        step = np.linalg.solve(curvature, gradient)
        solution -= step
        if np.abs(step).max() < _CONVERGED:
            break
    return Linear(weights=solution[1:], intercept=float(solution[0]))


def accuracy(logits: Vector, labels: Vector) -> float:
    """Return the share of rows on the right side of 0."""
    return float(((logits > 0) == (labels > 0)).mean())


def log_loss(logits: Vector, labels: Vector) -> float:
    """Return the mean negative log-likelihood, in nats; finite for any finite logits."""
    return float((np.logaddexp(0.0, logits) - labels * logits).mean())


def auc(logits: Vector, labels: Vector) -> float | None:
    """Return the chance that a random ill patient scores above a random healthy one, ties counted half.

    None if there are no patients of one kind.
    """
    ill = int(labels.sum())
    healthy = len(labels) - ill
    if not ill or not healthy:
        return None
    _, group, size = np.unique(logits, return_inverse=True, return_counts=True)
    rank = (np.cumsum(size) - (size - 1) / 2)[group]
    return float((rank[labels > 0].sum() - ill * (ill + 1) / 2) / (ill * healthy))


def _sigmoid(values: Vector) -> Vector:
    result: Vector = 0.5 * (1 + np.tanh(values / 2))
    return result


def _pooled(sites: Mapping[str, Site]) -> Site:
    parts = list(sites.values())
    return Site(
        train=np.concatenate([site.train for site in parts]),
        train_labels=np.concatenate([site.train_labels for site in parts]),
        test=np.concatenate([site.test for site in parts]),
        test_labels=np.concatenate([site.test_labels for site in parts]),
    )
