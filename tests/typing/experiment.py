"""What a type checker must understand of an experiment; checked by mypy, never run."""

from pathlib import Path
from typing import Any, assert_type

import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.messages import DatasetDescription, PlanStatusReply
from common.training_plans import TorchTrainingPlan
from researcher import Experiment, FedAverage, Federation, History, MinimumStrategy


class TypedPlan(TorchTrainingPlan):
    """A plan with all annotations."""

    def init_model(self, model_args: dict[str, Any]) -> torch.nn.Module:
        return torch.nn.Linear(model_args["features"], 1)

    def init_optimizer(self, optimizer_args: dict[str, Any]) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model().parameters(), **optimizer_args)

    def training_data(self) -> DataManager:
        return DataManager(TabularDataset(["age"], "target", missing="drop"), batch_size=32)

    def training_step(self, data: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss(self.predict(data).squeeze(1), target)


class BarePlan(TorchTrainingPlan):
    """A plan as people write it in a notebook: without annotations, which is fine too."""

    def init_model(self):  # type: ignore[no-untyped-def, override]
        return torch.nn.Linear(1, 1)

    def training_data(self):  # type: ignore[no-untyped-def]
        return DataManager(TabularDataset("age", "target"))

    def training_step(self, data, target):  # type: ignore[no-untyped-def]
        return self.model()(data).sum()


def run(home: Path) -> History:
    with Federation.open(home) as federation:
        experiment = Experiment(
            tags=["heart"],
            training_plan_class=TypedPlan,
            model_args={"features": 1},
            training_args={"num_updates": 5},
            round_limit=15,
            aggregator=FedAverage(),
            node_selection_strategy=MinimumStrategy(min_nodes=2, deadline_s=600),
            federation=federation,
        )
        with experiment:
            assert_type(experiment.run(), int)
            assert_type(experiment.training_plan(), TypedPlan)
            assert_type(experiment.training_plan().model(), torch.nn.Module)
            for description in experiment.training_data().values():
                assert_type(description, DatasetDescription)
            for status in experiment.check_training_plan_status().values():
                assert_type(status, PlanStatusReply)
            return experiment.history()


def losses(history: History) -> list[float | None]:
    assert_type(history[0].duration_s, float | None)
    return [node.loss for record in history for node in record.nodes.values()]


def mistakes() -> None:
    Experiment(tags=3)  # type: ignore[arg-type]
    Experiment(round_limit="many")  # type: ignore[arg-type]
    MinimumStrategy(minimum=2)  # type: ignore[call-arg]
    TabularDataset("age", "target", missing="guess")  # type: ignore[arg-type]
