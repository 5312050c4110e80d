"""The plan of the benchmarks: it adds one to every parameter."""

import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class AddOne(TorchTrainingPlan):
    """Do next to no work, so that what is measured is Warren."""

    def init_model(self, model_args):
        model = torch.nn.Module()
        model.weight = torch.nn.Parameter(torch.zeros(model_args["parameters"]))
        return model

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=1.0)

    def training_step(self, data, target):
        return -self.model().weight.sum()

    def training_data(self):
        return DataManager(TabularDataset("x", "y"), batch_size=8)
