"""A training plan for tests that never train."""

from __future__ import annotations

import torch

from common.training_plans import TorchTrainingPlan


class TinyPlan(TorchTrainingPlan):
    """A linear model of `model_args["inputs"]` inputs."""

    def init_model(self, model_args):
        return torch.nn.Linear(model_args["inputs"], 1)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data), target)

    def training_data(self):
        raise AssertionError("a researcher loads no data, and scripted nodes run no plan")
