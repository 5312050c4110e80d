"""Fit naive Bayes models exactly, in one round: what nodes count adds up to what pooled data would give."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypeVar

from common.training_plans.estimators import ClassifierArguments, sklearn_class
from common.training_plans.sums import SumPlan

A = TypeVar("A", bound=ClassifierArguments)

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _NaiveBayesPlan(SumPlan[A]):
    """A classifier that knows of each class how often it was there and what its samples sum up to; uniform before the first round."""

    def training_step(self, data: Any, target: Any) -> Tensor:
        """Return the mean negative log-probability of the right classes."""
        chosen = self.classes(target, self.arguments.n_classes)
        return nn.functional.cross_entropy(self.predict(data), chosen)

    def one_hot(self, target: Any) -> Tensor:
        """Return a column of 0 and 1 for each class, float64."""
        count = self.arguments.n_classes
        return nn.functional.one_hot(self.classes(target, count), count).to(torch.float64)

    def zeros(self) -> Tensor:
        """Return a number for each class and feature."""
        return torch.zeros(self.arguments.n_classes, self.arguments.n_features, dtype=torch.float64)

    def priors(self) -> Tensor:
        """Return the share of each class; equal shares as long as nothing was counted."""
        counts = self._params["sum.class_count"]
        return torch.full_like(counts, 1 / len(counts)) if not counts.any() else counts / counts.sum()

    def finished(self, estimator: Any, **fitted: Tensor) -> Any:
        """Give an estimator of scikit-learn the attributes of a fitted one."""
        estimator.classes_ = np.arange(self.arguments.n_classes)
        estimator.n_features_in_ = self.arguments.n_features
        estimator.class_count_ = self._params["sum.class_count"].numpy().copy()
        for name, value in fitted.items():
            setattr(estimator, name, value.numpy())
        return estimator


class GaussianArguments(ClassifierArguments):
    """Arguments of Gaussian naive Bayes."""

    var_smoothing: NotNegative = 1e-9
    """Share of the largest variance of all features that is added to each variance, as scikit-learn does."""


class FedGaussianNB(_NaiveBayesPlan[GaussianArguments]):
    """Gaussian naive Bayes, as scikit-learn's `GaussianNB` on pooled data (Chan, Golub and LeVeque, COMPSTAT 1982, eq. 1.1a and 1.2).

    Nodes send for each class the count n, and of each feature the sum s and the sum of squares q; the mean is s/n and the variance
    q/n - (s/n)^2. With a mean of 10^k deviations the variance loses 2 k of 16 digits: standardise such features by constants.
    """

    arguments_class = GaussianArguments

    def first_tensors(self) -> dict[str, Tensor]:
        """Return counts and sums of zero."""
        zeros = self.zeros()
        return {"sum.class_count": zeros[:, 0], "sum.features": zeros, "sum.squares": zeros}

    def statistics(self, data: Any, target: Any) -> dict[str, Tensor]:
        """Return counts, sums and sums of squares of a batch."""
        inputs, chosen = self.inputs(data, self.arguments.n_features), self.one_hot(target)
        return {
            "class_count": chosen.sum(0),
            "features": chosen.T @ inputs,
            "squares": chosen.T @ inputs.square(),
        }

    def predict(self, data: Any) -> Tensor:
        """Return the joint log-likelihood of each sample with each class, a column each."""
        means, variances = self._moments()
        inputs = self.inputs(data, self.arguments.n_features)[:, None]
        spread = ((inputs - means).square() / variances + variances.log() + math.log(2 * math.pi)).sum(2)
        return self.priors().log() - spread / 2

    def model(self) -> Any:
        """Return a fitted `GaussianNB`.

        Raises:
            MissingExtraError: If scikit-learn is not installed.
        """
        kind = sklearn_class("sklearn.naive_bayes", "GaussianNB", type(self).__name__)
        means, variances = self._moments()
        return self.finished(
            kind(var_smoothing=self.arguments.var_smoothing),
            theta_=means,
            var_=variances,
            class_prior_=self.priors(),
        )

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Return means and smoothed variances; 0 and 1 of a class that was not there."""
        counts, sums, squares = (
            self._params[f"sum.{name}"] for name in ("class_count", "features", "squares")
        )
        known = counts[:, None] > 0
        least = counts[:, None].clamp(min=1)
        means = sums / least
        variances = torch.where(known, (squares / least - means.square()).clamp(min=0), 1.0)
        total = counts.sum().clamp(min=1)
        overall = (squares.sum(0) / total - (sums.sum(0) / total).square()).max().clamp(min=0)
        return means, variances + self.arguments.var_smoothing * overall


class BernoulliArguments(ClassifierArguments):
    """Arguments of Bernoulli naive Bayes, as scikit-learn has them."""

    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """What is added to each count."""
    binarize: float | None = 0.0
    """Features above it count as 1, others as 0; none takes them as they are."""
    fit_prior: bool = True
    """Whether classes are as frequent as they were counted, or equally frequent."""


class FedBernoulliNB(_NaiveBayesPlan[BernoulliArguments]):
    """Bernoulli naive Bayes, as scikit-learn's `BernoulliNB` on pooled data.

    Source: Manning, Raghavan and Schuetze, Introduction to Information Retrieval, 2008, section 13.3.
    Nodes send the count n of each class and, for each feature, the count f of its ones among them; a feature is 1 with probability
    (f + alpha) / (n + 2 alpha).
    """

    arguments_class = BernoulliArguments

    def first_tensors(self) -> dict[str, Tensor]:
        """Return counts of zero."""
        zeros = self.zeros()
        return {"sum.class_count": zeros[:, 0], "sum.feature_count": zeros}

    def statistics(self, data: Any, target: Any) -> dict[str, Tensor]:
        """Return the counts of a batch."""
        chosen = self.one_hot(target)
        return {"class_count": chosen.sum(0), "feature_count": chosen.T @ self._ones(data)}

    def predict(self, data: Any) -> Tensor:
        """Return the joint log-likelihood of each sample with each class, a column each."""
        chances, ones = self._chances(), self._ones(data)
        return ones @ chances.log().T + (1 - ones) @ (-chances).log1p().T + self.priors().log()

    def model(self) -> Any:
        """Return a fitted `BernoulliNB`.

        Raises:
            MissingExtraError: If scikit-learn is not installed.
        """
        kind = sklearn_class("sklearn.naive_bayes", "BernoulliNB", type(self).__name__)
        known = self.arguments.model_dump(include={"alpha", "binarize", "fit_prior"})
        return self.finished(
            kind(**known),
            feature_count_=self._params["sum.feature_count"].clone(),
            feature_log_prob_=self._chances().log(),
            class_log_prior_=self.priors().log(),
        )

    def priors(self) -> Tensor:
        """Return the share of each class."""
        shares = super().priors()
        return shares if self.arguments.fit_prior else torch.full_like(shares, 1 / len(shares))

    def _ones(self, data: Any) -> Tensor:
        inputs = self.inputs(data, self.arguments.n_features)
        threshold = self.arguments.binarize
        return inputs if threshold is None else (inputs > threshold).to(torch.float64)

    def _chances(self) -> Tensor:
        alpha, counts = self.arguments.alpha, self._params["sum.class_count"][:, None]
        return (self._params["sum.feature_count"] + alpha) / (counts + 2 * alpha)
