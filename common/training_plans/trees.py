"""Let nodes grow gradient-boosted trees together with xgboost; what travels is tensors, never a model file of xgboost's.

A tree is a row of complete binary trees of one depth: node i has the children 2 i + 1 and 2 i + 2, so there are no links that could be wrong, and whatever
numbers a node sends, a prediction takes `max_depth` steps.
"""

from __future__ import annotations

import importlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from common.data import Loader
from common.errors import InvalidArgumentsError, MissingExtraError
from common.messages import LossPoint
from common.training_args import TrainingArgs
from common.training_plans.guard import PlanCode
from common.training_plans.tensors import HeldPlan, ModelArguments
from common.training_plans.training import pair

Share = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_NO_SPLIT: Final = -1
_SEEDS: Final = 2**31 - 1


class TreeArguments(ModelArguments):
    """What the tree plans take from `model_args`; what is not explained here is xgboost's parameter of that name."""

    n_features: Annotated[int, Field(ge=1, lt=2**31)]
    """Number of input columns; missing values in them are fine."""
    max_trees: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Trees that the model has room for: rounds times epochs, times the nodes that take part in a round."""
    max_depth: Annotated[int, Field(ge=1, le=10)] = 4
    base_score: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Prediction before the first tree: a number, or for classes a logit."""
    learning_rate: Share = 0.3
    min_child_weight: NotNegative = 1.0
    gamma: NotNegative = 0.0
    reg_lambda: NotNegative = 1.0
    reg_alpha: NotNegative = 0.0
    subsample: Share = 1.0
    colsample_bytree: Share = 1.0


class _TreePlan(HeldPlan[TreeArguments]):
    """Gradient-boosted trees (Chen and Guestrin, KDD 2016), grown by xgboost at the nodes.

    In a round each node grows one tree for each of its `epochs`, boosting what the global model left over on its data. The aggregator `TreeEnsemble`
    appends the trees of all nodes, their values weighted by the nodes' shares of the samples, so that a round is one boosting step with the mean of the
    nodes' trees (bagging). With one node in each round, `RoundRobinSampling(num_nodes=1)`, it is boosting from node to node (cyclic).
    """

    aggregator = "TreeEnsemble"
    arguments_class = TreeArguments
    objective: ClassVar[str]
    """What xgboost minimises."""

    def prepare(self, *, model_args: Mapping[str, Any], training_args: TrainingArgs) -> None:
        """Build the model; see `TensorPlan.prepare`.

        Raises:
            InvalidArgumentsError: If the training arguments ask for anything but whole passes.
        """
        problems = [
            f"  {name}: leave it out; `epochs` is the number of trees that a node grows in a round"
            for name in ("num_updates", "batch_maxnum", "dry_run", "fedprox_mu", "optimizer_args")
            if getattr(training_args, name)
        ]
        if problems:
            raise InvalidArgumentsError(problems="\n".join(problems))
        super().prepare(model_args=model_args, training_args=training_args)

    def build(self) -> None:
        """Make a model without trees."""
        shape = (self.arguments.max_trees, 2 ** (self.arguments.max_depth + 1) - 1)
        self._params = {
            "trees": torch.tensor(0),
            "feature": torch.full(shape, _NO_SPLIT, dtype=torch.int32),
            "threshold": torch.zeros(shape),
            "missing_left": torch.zeros(shape, dtype=torch.uint8),
            "value": torch.zeros(shape),
        }

    def train(self, loader: Loader, report: Callable[[LossPoint], None]) -> int:
        """Grow trees on the training part and return the number of its samples times the trees.

        Raises:
            PlanContractError: If data have the wrong shape, or the model has no room for the trees.
            MissingExtraError: If xgboost is not installed.
        """
        grown, first = self._training_args.epochs or 0, int(self._params["trees"])
        if first + grown > self.arguments.max_trees:
            self.breaks_contract(
                "train", f"has no room for {grown} trees beside {first}: raise max_trees in model_args"
            )
        with PlanCode(type(self), "training_data"):
            batches = [pair(self, batch) for batch in loader]
            if not batches:
                self.breaks_contract("training_data", "gives nothing to train on")
            data = torch.cat([data for data, _ in batches])
            target = self.goals(torch.cat([target for _, target in batches]))
        self._check_inputs(data)
        known = self._features(data), self._margins(data)
        after = {name: value.clone() for name, value in self._params.items()}
        for slot, tree in enumerate(self._grown(*known, target, grown), start=first):
            _write_tree(after, slot, tree)
        after["trees"] = torch.tensor(first + grown)
        self._params = after
        if grown:
            loss = float(self.loss(self._margins(data), target))
            report(LossPoint(iteration=grown, epoch=grown - 1, samples=len(data) * grown, loss=loss))
        return len(data) * grown

    def training_step(self, data: Any, target: Any) -> Tensor:
        """Return the mean loss of a batch."""
        return self.loss(self.predict(data), self.goals(target))

    def predict(self, data: Any) -> Tensor:
        """Return the sum of the trees for each sample: the number, or for classes the logit of class 1."""
        self._check_inputs(data)
        return self._margins(data)

    @abstractmethod
    def goals(self, target: Any) -> Tensor:
        """Return the targets of a batch, checked."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of predictions."""

    def _check_inputs(self, data: Any) -> None:
        self.inputs(data, self.arguments.n_features)

    def _features(self, data: Tensor) -> Tensor:
        return data.to(torch.float32)

    def _margins(self, data: Tensor) -> Tensor:
        """Return the sum of the trees, float64."""
        inputs = self._features(data)
        result = torch.full((len(inputs),), self.arguments.base_score, dtype=torch.float64)
        count = min(max(int(self._params["trees"]), 0), self.arguments.max_trees)
        for slot in range(count):
            result += self._one_tree(inputs, slot)
        return result

    def _one_tree(self, inputs: Tensor, slot: int) -> Tensor:
        feature, threshold = self._params["feature"][slot].long(), self._params["threshold"][slot]
        missing_left, value = self._params["missing_left"][slot] != 0, self._params["value"][slot]
        feature = torch.where(feature < self.arguments.n_features, feature, _NO_SPLIT)
        place, rows = torch.zeros(len(inputs), dtype=torch.int64), torch.arange(len(inputs))
        for _ in range(self.arguments.max_depth):
            split = feature[place]
            seen = inputs[rows, split.clamp(min=0)]
            left = torch.where(seen.isnan(), missing_left[place], seen < threshold[place])
            place = torch.where(split < 0, place, 2 * place + 2 - left.long())
        return value[place].double()

    def _grown(self, inputs: Tensor, margins: Tensor, target: Tensor, count: int) -> list[dict[str, Any]]:
        """Return the trees that xgboost grows, as it writes them."""
        xgboost = self._xgboost()
        matrix = xgboost.DMatrix(
            inputs.numpy(), label=target.numpy(), base_margin=margins.numpy(), missing=np.nan, nthread=1
        )
        own = {"n_features", "max_trees", "base_score"}
        settings = {
            **self.arguments.model_dump(exclude=own),
            "objective": self.objective,
            "tree_method": "hist",
            "nthread": 1,  # sums in one order, so the same data give the same trees
            "seed": int(np.random.randint(_SEEDS)),  # noqa: NPY002 - the worker seeds the global generator for each task
        }
        booster = xgboost.train(settings, matrix, count)
        document = json.loads(booster.save_raw("json"))
        trees: list[dict[str, Any]] = document["learner"]["gradient_booster"]["model"]["trees"]
        return trees

    def _xgboost(self) -> Any:
        try:
            return importlib.import_module("xgboost")
        except ImportError as error:
            raise MissingExtraError(
                feature=type(self).__name__, package="xgboost-cpu", extra="trees"
            ) from error


def _write_tree(params: Mapping[str, Tensor], slot: int, tree: Mapping[str, Any]) -> None:
    """Write a tree of xgboost's into a slot."""
    waiting = [(0, 0)]
    while waiting:
        source, place = waiting.pop()
        left, right = tree["left_children"][source], tree["right_children"][source]
        condition = tree["split_conditions"][source]
        if left == _NO_SPLIT:
            params["value"][slot, place] = condition  # of a leaf it is its value
            continue
        params["feature"][slot, place] = tree["split_indices"][source]
        params["threshold"][slot, place] = condition
        params["missing_left"][slot, place] = tree["default_left"][source]
        waiting += [(left, 2 * place + 1), (right, 2 * place + 2)]


class FedXGBClassifier(_TreePlan):
    """Boosted trees for the classes 0 and 1, by log-loss; `model_args` need `n_features`."""

    objective = "binary:logistic"

    def goals(self, target: Any) -> Tensor:
        """Return class numbers."""
        return self.classes(target, 2)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean log-loss."""
        return nn.functional.binary_cross_entropy_with_logits(output, target.to(torch.float64))


class FedXGBRegressor(_TreePlan):
    """Boosted trees for numbers, by squares; `model_args` need `n_features`, and `base_score` should be near the mean of the targets."""

    default_metric = "MEAN_SQUARE_ERROR"
    objective = "reg:squarederror"

    def goals(self, target: Any) -> Tensor:
        """Return the targets."""
        return self.targets(target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean square error."""
        return nn.functional.mse_loss(output, target)
