"""The plan of the benchmarks of large models: one vector, to which each node adds a constant of its own."""

import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class BigVector(TorchTrainingPlan):
    """Node `nodeN` adds N + 1 to every parameter, so that no two updates are the same."""

    def init_model(self, model_args):
        model = torch.nn.Module()
        model.weight = torch.nn.Parameter(torch.zeros(model_args["parameters"]))
        return model

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=1.0)

    def training_step(self, data, target):
        return self.model().weight.sum() * -(int(self.node_id().removeprefix("node")) + 1.0)

    def training_data(self):
        return DataManager(TabularDataset("x", "y"), batch_size=16)
