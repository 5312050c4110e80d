"""What a type checker must understand of plans without a torch model; checked by mypy, never run."""

from typing import Any, assert_type

from common.data import DataManager
from common.datasets import TabularDataset
from common.optimizers import Optimizer
from common.training_plans import FedCoxPH, FedLinearRegression, FedSGDClassifier, FedXGBRegressor
from common.training_plans.inference import Coefficient, Summary
from researcher import Experiment


class LinePlan(FedLinearRegression):
    """A plan with all annotations."""

    def training_data(self) -> DataManager:
        return DataManager(TabularDataset(["age"], "chol", dtype="float64"))


class SurvivalPlan(FedCoxPH):
    """A plan without annotations."""

    def training_data(self):  # type: ignore[no-untyped-def]
        return DataManager(TabularDataset(["age"], ["time", "event"]))


class ClassPlan(FedSGDClassifier):
    """A plan with an optimizer."""

    def init_optimizer(self, optimizer_args: dict[str, Any]) -> Optimizer:
        return Optimizer(lr=optimizer_args["lr"])

    def training_data(self) -> DataManager:
        return DataManager(TabularDataset(["age"], "target"))


class TreePlan(FedXGBRegressor):
    """A plan of trees."""

    def training_data(self) -> DataManager:
        return DataManager(TabularDataset(["age"], "chol"))


def results() -> None:
    exact = Experiment(tags="x", training_plan_class=LinePlan, training_args={"epochs": 1})
    assert_type(exact.training_plan(), LinePlan)
    assert_type(exact.training_plan().summary(), Summary)
    survival = Experiment(tags="x", training_plan_class=SurvivalPlan, training_args={"epochs": 1})
    assert_type(survival.training_plan().summary()["age"], Coefficient)
    trees = Experiment(tags="x", training_plan_class=TreePlan, training_args={"epochs": 1})
    assert_type(trees.training_plan().arguments.max_trees, int)
    everything: list[Experiment] = [exact, survival, trees]
    for one in everything:
        one.training_plan().export_model("model.safetensors")
