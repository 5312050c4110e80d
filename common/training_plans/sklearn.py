"""Offer scikit-learn's models that learn batch by batch, under Fed-BioMed's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from common.optimizers import Optimizer
from common.training_plans.estimators import ClassifierArguments, EstimatorArguments, EstimatorPlan
from common.training_plans.losses import LOSSES
from common.training_plans.stepping import TorchStepper

A = TypeVar("A", bound=EstimatorArguments)


class _SGDPlan(EstimatorPlan[A]):
    """A linear model that learns by stochastic gradient descent (Bottou, COMPSTAT 2010), one sample after the other.

    The model is `coef_`, `intercept_` and `t_`, the count of samples that step sizes depend on: it is averaged too, so that a schedule goes on over
    rounds. With an `init_optimizer` each batch is one step along the mean gradient of loss and penalty instead.
    """

    buffers = ("t_",)

    _weights: tuple[nn.Parameter, nn.Parameter] | None = None
    _stepper: TorchStepper | None = None

    def signed(self, target: Any) -> Tensor:
        """Return the targets of a batch as the loss takes them, of the shape of `predict`."""
        return self.targets(target)

    def get_model_params(self) -> dict[str, Tensor]:
        """Return the tensors of the model by name."""
        model = self.model()
        return {
            "coef_": torch.tensor(model.coef_, dtype=torch.float64),
            "intercept_": torch.tensor(model.intercept_, dtype=torch.float64),
            "t_": torch.tensor(round(model.t_), dtype=torch.int64),
        }

    def fill(self, estimator: Any, params: Mapping[str, Tensor]) -> None:
        """Put parameters into an estimator that was begun."""
        estimator.coef_ = params["coef_"].numpy().copy()
        estimator.intercept_ = params["intercept_"].numpy().copy()
        estimator.t_ = float(params["t_"])

    def begin(self, estimator: Any) -> None:
        """Give a new estimator coefficients of zero."""
        zeros = torch.zeros(1, self.arguments.n_features, dtype=torch.float64)
        self.fit_part(estimator, zeros, torch.zeros(1))
        estimator.coef_[:], estimator.intercept_[:], estimator.t_ = 0.0, 0.0, 1.0

    def fit_part(self, estimator: Any, data: Tensor, target: Tensor) -> None:
        """Let an estimator take its own steps."""
        estimator.partial_fit(data.numpy(), self.targets(target).numpy())

    def start(self, optimizer: Optimizer | None) -> None:
        """Begin a round."""
        self._weights = self._stepper = None
        if optimizer is not None:
            model = self.model()
            coef, intercept = (
                nn.Parameter(torch.from_numpy(model.coef_)),
                nn.Parameter(torch.from_numpy(model.intercept_)),
            )
            intercept.requires_grad_(model.fit_intercept)
            self._weights = coef, intercept  # they share the memory of the estimator
            self._stepper = TorchStepper(self._weights, optimizer)

    def step(self, data: Tensor, target: Any) -> float:
        """Train on one batch and return its mean loss before that."""
        if self._stepper is None or self._weights is None:
            loss = float(self.training_step(data, target))
            self.fit_part(self.model(), data, target)
            return loss
        self._stepper.zero_grad()
        loss_of_batch = self._loss(self._scores(data, *self._weights), target)
        torch.autograd.backward(loss_of_batch + self._penalty(self._weights[0]))
        self._stepper.step()
        self.model().t_ += len(data)
        return loss_of_batch.item()

    def training_step(self, data: Any, target: Any) -> Tensor:
        """Return the mean loss of a batch, without the penalty."""
        return self._loss(self.predict(data), target)

    def predict(self, data: Any) -> Tensor:
        """Return the output of the linear model for each sample; of more than two classes, one column for each."""
        model = self.model()
        inputs = self.inputs(data, self.arguments.n_features)
        return self._scores(inputs, torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_))

    def _scores(self, inputs: Tensor, coef: Tensor, intercept: Tensor) -> Tensor:
        scores = inputs @ coef.reshape(-1, inputs.shape[1]).T + intercept
        return scores.squeeze(1) if scores.shape[1] == 1 else scores

    def _loss(self, scores: Tensor, target: Any) -> Tensor:
        model = self.model()
        return LOSSES[model.loss](scores, self.signed(target), model.epsilon).sum() / len(scores)

    def _penalty(self, coef: Tensor) -> Tensor:
        """Return the term that scikit-learn adds to the loss of each sample."""
        model = self.model()
        lasso = {"l1": 1.0, "l2": 0.0, "elasticnet": model.l1_ratio, None: 0.0}[model.penalty]
        alpha = 0.0 if model.penalty is None else model.alpha
        result: Tensor = alpha * ((1 - lasso) / 2 * coef.square().sum() + lasso * coef.abs().sum())
        return result


class FedSGDRegressor(_SGDPlan[EstimatorArguments]):
    """scikit-learn's `SGDRegressor`, beginning at zero; `model_args` need `n_features`."""

    arguments_class = EstimatorArguments
    default_metric = "MEAN_SQUARE_ERROR"
    estimator_home = ("sklearn.linear_model", "SGDRegressor")


class FedSGDClassifier(_SGDPlan[ClassifierArguments]):
    """scikit-learn's `SGDClassifier`, beginning at zero; `model_args` need `n_features` and `n_classes`. One class against all others each."""

    arguments_class = ClassifierArguments
    estimator_home = ("sklearn.linear_model", "SGDClassifier")

    def signed(self, target: Any) -> Tensor:
        """Return 1 for the class of a sample and -1 for others; of two classes, for class 1 alone."""
        count = self.arguments.n_classes
        chosen = nn.functional.one_hot(self.classes(target, count), count).to(torch.float64) * 2 - 1
        return chosen[:, 1] if count == 2 else chosen

    def fit_part(self, estimator: Any, data: Tensor, target: Tensor) -> None:
        """Let an estimator take its own steps."""
        count = self.arguments.n_classes
        estimator.partial_fit(data.numpy(), self.classes(target, count).numpy(), classes=np.arange(count))


class FedPerceptron(FedSGDClassifier):
    """The perceptron (Rosenblatt, Psychological Review 1958): `SGDClassifier` with that loss, a constant step and no penalty."""

    estimator_defaults: ClassVar = {
        "eta0": 1.0,
        "learning_rate": "constant",
        "penalty": None,
        "loss": "perceptron",
    }


class FedMLPClassifier(EstimatorPlan[ClassifierArguments]):
    """scikit-learn's `MLPClassifier`; `model_args` need `n_features` and `n_classes`, and may have `hidden_layer_sizes` and the like.

    The first weights are drawn as scikit-learn draws them (Glorot and Bengio, AISTATS 2010). The solver, sgd or adam, begins anew in each round.
    """

    arguments_class = ClassifierArguments
    estimator_home = ("sklearn.neural_network", "MLPClassifier")

    def get_model_params(self) -> dict[str, Tensor]:
        """Return the tensors of the model by name."""
        model = self.model()
        return {
            f"{name}.{layer}": torch.tensor(value, dtype=torch.float64)
            for name in ("coefs_", "intercepts_")
            for layer, value in enumerate(getattr(model, name))
        }

    def fill(self, estimator: Any, params: Mapping[str, Tensor]) -> None:
        """Put parameters into an estimator that was begun."""
        for name in ("coefs_", "intercepts_"):
            for layer, value in enumerate(getattr(estimator, name)):
                value[:] = params[f"{name}.{layer}"].numpy()

    def begin(self, estimator: Any) -> None:
        """Draw weights: a step of no length is what makes scikit-learn do it."""
        rate = estimator.learning_rate_init
        estimator.set_params(learning_rate_init=np.finfo(np.float64).tiny)
        self._fit_part(
            estimator, torch.zeros(1, self.arguments.n_features, dtype=torch.float64), torch.zeros(1)
        )
        estimator.set_params(learning_rate_init=rate)
        del estimator._optimizer  # noqa: SLF001 - made for that rate; the next step makes another

    def step(self, data: Tensor, target: Any) -> float:
        """Train on one batch and return its mean loss before that."""
        loss = float(self.training_step(data, target))
        self._fit_part(self.model(), data, target)
        return loss

    def training_step(self, data: Any, target: Any) -> Tensor:
        """Return the mean negative log-likelihood of a batch, without the penalty."""
        return nn.functional.nll_loss(self.predict(data), self.classes(target, self.arguments.n_classes))

    def predict(self, data: Any) -> Tensor:
        """Return the logarithm of the probability of each class, a column each; of none less than 1e-10."""
        chances = self.model().predict_proba(self.inputs(data, self.arguments.n_features).numpy())
        return torch.from_numpy(chances).clamp(min=1e-10).log()

    def _fit_part(self, estimator: Any, data: Tensor, target: Tensor) -> None:
        count = self.arguments.n_classes
        estimator.partial_fit(data.numpy(), self.classes(target, count).numpy(), classes=np.arange(count))
