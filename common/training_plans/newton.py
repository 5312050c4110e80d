"""Fit generalised linear models exactly: what nodes send adds up to the gradient and the information matrix of pooled data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import TypeVar

from common.training_plans.inference import Summary, summarised
from common.training_plans.sums import SumPlan
from common.training_plans.tensors import ModelArguments

Count = Annotated[int, Field(ge=1)]
Penalty = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NewtonArguments(ModelArguments):
    """What every one of these models takes from `model_args`."""

    n_features: Count
    """Number of input columns."""
    fit_intercept: bool = True
    feature_names: tuple[str, ...] | None = None
    """Names for the summary, in the order of the columns."""

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if self.feature_names is not None and len(self.feature_names) != self.n_features:
            raise ValueError(
                f"feature_names has {len(self.feature_names)} names for {self.n_features} features"
            )
        return self


A = TypeVar("A", bound=NewtonArguments, default=NewtonArguments)


class NewtonPlan(SumPlan[A]):
    """A plan whose log-likelihood is a sum over nodes; the aggregator `NewtonStep` takes one Newton step in each round.

    The model is `coefficients`, those of the columns and then the intercept, if there is one. Everything is float64: give the data set
    `dtype="float64"`, too, and no `standardize` without `moments="federation"`: it takes other means at each node.
    """

    aggregator = "NewtonStep"
    arguments_class: ClassVar[type[ModelArguments]] = NewtonArguments
    least_squares: ClassVar[bool] = False
    """Whether the summary has a residual variance and t tests, in place of ratios and z tests."""

    @abstractmethod
    def derivatives(self, data: Tensor, target: Any, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log-likelihood of a batch, its gradient, and the negative of its matrix of second derivatives.

        Args:
            data: float64 of shape (samples, coefficients), with a last column of ones if there is an intercept.
            target: As the data set gives it.
            coefficients: Where to take them.
        """

    def penalty(self) -> float:
        """Return p of the term -p/2 |w|^2 that is added once to the log-likelihood of all data; the intercept is left out of it."""
        return 0.0

    def first_tensors(self) -> dict[str, Tensor]:
        """Return a model of zeros."""
        count = len(self.names())
        penalties = torch.full((count,), float(self.penalty()), dtype=torch.float64)
        if self.arguments.fit_intercept:
            penalties[-1] = 0.0
        zeros = torch.zeros(count, dtype=torch.float64)
        return {
            "coefficients": zeros,
            "evaluated": zeros,
            "penalty": penalties,
            "sum.log_likelihood": zeros.sum(),
            "sum.gradient": zeros,
            "sum.information": zeros.outer(zeros),
        }

    def statistics(self, data: Any, target: Any) -> dict[str, Tensor]:
        """Return log-likelihood, gradient and information of a batch at the model's coefficients."""
        value, gradient, information = self.derivatives(self.design(data), target, self.coefficients())
        return {"log_likelihood": value, "gradient": gradient, "information": information}

    def loss_of(self, data: Any, target: Any, given: Mapping[str, Tensor]) -> float:  # noqa: ARG002 - the statistics hold it
        """Return the negative log-likelihood of a batch."""
        return -float(given["log_likelihood"])

    def training_step(self, data: Any, target: Any) -> Tensor:
        """Return the mean negative log-likelihood of a batch."""
        return -self.derivatives(self.design(data), target, self.coefficients())[0] / len(target)

    def predict(self, data: Any) -> Tensor:
        """Return the linear predictor of each sample, float64."""
        return self.design(data) @ self.coefficients()

    def coefficients(self) -> Tensor:
        """Return the coefficients of the columns, and then the intercept, if there is one."""
        return self._params["coefficients"]

    def names(self) -> tuple[str, ...]:
        """Return the names of the coefficients."""
        given = self.arguments.feature_names or tuple(
            f"x{index}" for index in range(self.arguments.n_features)
        )
        return (*given, "intercept") if self.arguments.fit_intercept else given

    def summary(self, level: float = 0.95) -> Summary:
        """Return estimates, standard errors, confidence intervals and tests, from the summed information matrix.

        Args:
            level: Of the confidence intervals.

        Raises:
            PlanContractError: Before a round was finished.
        """
        if not float(self._params["sum.samples"]):
            self.breaks_contract("summary", "has nothing to tell before a round was finished")
        arrays = {name: value.numpy() for name, value in self._params.items()}
        return summarised(self.names(), arrays, level=level, least_squares=self.least_squares)

    def design(self, data: Any) -> Tensor:
        """Return the inputs of a batch with the column of ones of the intercept."""
        inputs = self.inputs(data, self.arguments.n_features)
        if not self.arguments.fit_intercept:
            return inputs
        return torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)


class FedLinearRegression(NewtonPlan[A]):
    """Linear regression by least squares, exactly as on pooled data, in one round; a second one takes rounding errors away.

    The log-likelihood is that of unit variance without its constant, -|y - X w|^2 / 2, so that its Newton step solves the normal equations
    X'X w = X'y (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009, eq. 3.6). The summary estimates the variance.
    """

    default_metric = "MEAN_SQUARE_ERROR"
    least_squares = True

    def derivatives(self, data: Tensor, target: Any, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return them for a batch; see `NewtonPlan.derivatives`."""
        left = self.targets(target) - data @ coefficients
        return -left.square().sum() / 2, data.T @ left, data.T @ data


class RidgeArguments(NewtonArguments):
    """Arguments of ridge regression."""

    alpha: Penalty = 1.0
    """Weight of the penalty alpha |w|^2 beside the sum of squares, as scikit-learn's `Ridge` has it."""


class FedRidge(FedLinearRegression[RidgeArguments]):
    """Ridge regression, exactly as on pooled data (Hoerl and Kennard, Technometrics 1970, eq. 2.1): (X'X + alpha) w = X'y.

    The intercept is not penalised.
    """

    arguments_class = RidgeArguments

    def penalty(self) -> float:
        """Return alpha."""
        return self.arguments.alpha


class LogisticArguments(NewtonArguments):
    """Arguments of logistic regression."""

    C: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Inverse weight of the penalty |w|^2 / 2, as in scikit-learn; none leaves it out, which is maximum likelihood."""


class FedLogisticRegression(NewtonPlan[LogisticArguments]):
    """Logistic regression of two classes, 0 and 1, exactly as on pooled data, in some 5 to 8 rounds.

    With m the probabilities of class 1, gradient X'(y - m) and information X' diag(m (1 - m)) X (Hastie, Tibshirani and Friedman, The
    Elements of Statistical Learning, 2009, eq. 4.21 to 4.25). The intercept is not penalised.
    """

    arguments_class = LogisticArguments

    def penalty(self) -> float:
        """Return 1 / C."""
        return 0.0 if self.arguments.C is None else 1 / self.arguments.C

    def derivatives(self, data: Tensor, target: Any, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return them for a batch; see `NewtonPlan.derivatives`."""
        classes = self.classes(target, 2).to(torch.float64)
        scores = data @ coefficients
        chances = torch.sigmoid(scores)
        value = (classes * scores - nn.functional.softplus(scores)).sum()
        spread = chances * (1 - chances)
        return value, data.T @ (classes - chances), data.T @ (spread[:, None] * data)

    def probabilities(self, data: Any) -> Tensor:
        """Return the probability of class 1 for each sample."""
        return torch.sigmoid(self.predict(data))
