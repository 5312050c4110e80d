"""Let a plan train an estimator of scikit-learn batch by batch."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from common.data import Loader
from common.errors import InvalidArgumentsError, InvalidSettingsError, MissingExtraError
from common.messages import LossPoint
from common.optimizers import Optimizer
from common.training_args import TrainingArgs
from common.training_plans.guard import PlanCode
from common.training_plans.tensors import ModelArguments, TensorPlan
from common.training_plans.training import Curve, batches, pair
from common.training_plans.validation import Validated


class EstimatorArguments(ModelArguments):
    """What an estimator's plan takes from `model_args`, besides the arguments of the estimator itself."""

    n_features: Annotated[int, Field(ge=1)]
    """Number of input columns."""


class ClassifierArguments(EstimatorArguments):
    """What a classifier's plan takes from `model_args`."""

    n_classes: Annotated[int, Field(ge=2)]
    """Number of classes; targets are 0 to n_classes - 1."""


A = TypeVar("A", bound=EstimatorArguments, default=EstimatorArguments)

_NOT_FEDERATED = ("average", "class_weight", "early_stopping", "warm_start")


def sklearn_class(module: str, name: str, plan: str) -> Any:
    """Return a class of scikit-learn.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingExtraError(feature=plan, package="scikit-learn", extra="sklearn") from error


class EstimatorPlan(TensorPlan[A]):
    """A plan around an estimator of scikit-learn that has `partial_fit`.

    Keys of `model_args` that the estimator knows are its arguments; `average`, `class_weight`, `early_stopping` and `warm_start` cannot be used. Without an
    `init_optimizer` the estimator takes its own steps. A `testing_step(self, data, target)` gets numpy arrays.
    """

    estimator_home: ClassVar[tuple[str, str]]
    """Module and class of the estimator."""
    estimator_defaults: ClassVar[Mapping[str, Any]] = {}
    """Arguments of the estimator that differ from its own defaults."""

    _estimator: Any = None

    @abstractmethod
    def begin(self, estimator: Any) -> None:
        """Give a new estimator all the attributes of a fitted one, by fitting it to one sample of zeros."""

    @abstractmethod
    def fill(self, estimator: Any, params: Mapping[str, Tensor]) -> None:
        """Put parameters into an estimator that was begun."""

    @abstractmethod
    def step(self, data: Tensor, target: Any) -> float:
        """Train on one batch and return its mean loss before that."""

    def init_optimizer(self, optimizer_args: dict[str, Any]) -> Optimizer | None:  # noqa: ARG002 - for plans that override it
        """Return an optimizer of modules that steps in place of the estimator; none unless the plan says otherwise."""
        return None

    def model(self) -> Any:
        """Return the estimator, fitted: `plan.model().predict(data)`.

        Raises:
            PlanContractError: Before `prepare`.
        """
        if self._estimator is None:
            self.breaks_contract("model", "was not built yet")
        return self._estimator

    def prepare(self, *, model_args: Mapping[str, Any], training_args: TrainingArgs) -> None:
        """Build the model; see `TensorPlan.prepare`.

        Raises:
            InvalidArgumentsError: If the training arguments ask for what this plan cannot do.
        """
        problems = []
        if training_args.fedprox_mu:
            problems.append("  fedprox_mu: use init_optimizer with a FedProxRegularizer")
        if training_args.optimizer_args and type(self).init_optimizer is EstimatorPlan.init_optimizer:
            problems.append(
                "  optimizer_args: the plan has no init_optimizer; step sizes of scikit-learn are in model_args"
            )
        if problems:
            raise InvalidArgumentsError(problems="\n".join(problems))
        super().prepare(model_args=model_args, training_args=training_args)

    def build(self) -> None:
        """Make the first model."""
        self._estimator = self._fresh()

    def load(self, params: Mapping[str, Tensor]) -> None:
        """Take tensors as the model; they fit."""
        estimator = self._fresh()
        self.fill(estimator, params)
        self._estimator = estimator

    def train(self, loader: Loader, report: Callable[[LossPoint], None]) -> int:
        """Train as the training arguments say and return the number of samples seen, each time counted.

        Raises:
            PlanFailedError: If a line of the plan raises; says which.
            PlanContractError: If a method returns the wrong thing, or there is nothing to train on.
        """
        optimizer = self.call(self.init_optimizer, optimizer_args=self.optimizer_args())
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            self.breaks_contract(
                "init_optimizer", f"returned {type(optimizer).__name__}, not an Optimizer of modules"
            )
        self.start(optimizer)
        curve = Curve(self._training_args.log_interval, report)
        with PlanCode(type(self), "training_data"):
            for epoch, batch in batches(self, loader, self._training_args):
                data, target = pair(self, batch)
                data = self.inputs(data, self.arguments.n_features)
                curve.add(epoch, len(data), self.step(data, target))
        curve.finish()
        return curve.samples

    def start(self, optimizer: Optimizer | None) -> None:
        """Begin a round; this class cannot use an optimizer of modules.

        Raises:
            PlanContractError: If there is one.
        """
        if optimizer is not None:
            self.breaks_contract("init_optimizer", "is of no use here; the solver is in model_args")

    def validate(self, loader: Loader) -> Validated:
        """Return the model's metrics; see `common.training_plans.validation.validate`."""
        return super().validate(_Arrays(loader) if hasattr(self, "testing_step") else loader)

    def _fresh(self) -> Any:
        kind = sklearn_class(*self.estimator_home, type(self).__name__)
        known = kind().get_params()
        given = {
            **self.estimator_defaults,
            **{key: value for key, value in self._model_args.items() if key in known},
        }
        refused = [f"  {key}: cannot be used in a federation" for key in _NOT_FEDERATED if given.get(key)]
        if refused:
            raise InvalidSettingsError(source="model_args", problems="\n".join(refused))
        try:
            estimator = kind(**given)
            self.begin(estimator)
        # scikit-learn raises these for wrong arguments
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidSettingsError(source="model_args", problems=f"  {error}") from error
        return estimator


class _Arrays:
    """A loader whose batches are numpy arrays, as people write for scikit-learn."""

    def __init__(self, loader: Loader) -> None:
        self.samples = loader.samples
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._loader:
            yield tuple(part.numpy() if isinstance(part, torch.Tensor) else part for part in batch)
