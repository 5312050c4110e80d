"""Define training plans and data for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common.data import DataManager
from common.datasets import TabularDataset
from common.training_args import TrainingArgs
from common.training_plans import TorchTrainingPlan
from common.training_plans.source import load_plan, plan_hash, plan_source

COLUMNS = ["a", "b", "c"]

torch.set_num_threads(1)  # threads wait for each other at every tiny step, long on a busy machine


class LogisticPlan(TorchTrainingPlan):
    """Logistic regression on three columns."""

    def init_model(self, model_args):
        return nn.Linear(len(COLUMNS), 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=optimizer_args.get("lr", 0.1))

    def training_step(self, data, target):
        return nn.functional.binary_cross_entropy_with_logits(self.model()(data), target.float())

    def training_data(self):
        return DataManager(TabularDataset(COLUMNS, ["y"]), batch_size=8)


def write_table(path: Path, *, rows: int = 40, seed: int = 0) -> Path:
    """Write a csv of three inputs, a target of 0 and 1 that they nearly decide, and a split column."""
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(rows, 3))
    target = (data @ [1.0, -2.0, 0.5] + rng.normal(size=rows) * 0.1 > 0).astype(int)
    lines = [
        f"{x[0]:.6f},{x[1]:.6f},{x[2]:.6f},{y},{'test' if i % 4 == 0 else 'train'}"
        for i, (x, y) in enumerate(zip(data, target, strict=True))
    ]
    path.write_text("\n".join(["a,b,c,y,split", *lines]) + "\n")
    return path


def prepared(
    plan: type[TorchTrainingPlan] = LogisticPlan, *, model_args: dict[str, Any] | None = None, **args: Any
) -> TorchTrainingPlan:
    """Return a plan with a model and with training arguments, one update unless they say otherwise."""
    made = plan()
    settings = {"random_seed": 3, "num_updates": 1} | args
    made.prepare(model_args=model_args or {}, training_args=TrainingArgs.of(settings))
    return made


def loaded(source: str, name: str = "Plan") -> type[TorchTrainingPlan]:
    """Return the class in a source."""
    plan = load_plan(source, name, plan_hash(source))
    assert issubclass(plan, TorchTrainingPlan)
    return plan


def shipped(plan: type[TorchTrainingPlan]) -> type[TorchTrainingPlan]:
    """Return the class that a node makes of a plan's source."""
    return loaded(plan_source(plan), plan.__name__)
