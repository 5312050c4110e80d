"""A plan in which everything that could go astray matters: data, their order, dropout, noise, optimizer, running statistics."""

import random
import threading

import numpy as np
import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class NoisyPlan(TorchTrainingPlan):
    """A small network; `pause_s` makes each step take longer and changes nothing else."""

    def init_model(self, model_args):
        width = model_args["width"]
        return torch.nn.Sequential(
            torch.nn.Linear(4, width),
            torch.nn.BatchNorm1d(width),
            torch.nn.Dropout(0.2),
            torch.nn.Tanh(),
            torch.nn.Linear(width, 1),
        )

    def init_optimizer(self, optimizer_args):
        return torch.optim.Adam(self.model().parameters(), lr=0.01)

    def training_step(self, data, target):
        threading.Event().wait(self.model_args()["pause_s"])
        shift = 0.01 * random.random() + 0.01 * float(np.random.rand())  # noqa: S311, NPY002 - the global generators are what is tried
        noisy = data + shift + 0.01 * torch.randn_like(data)
        return torch.nn.functional.mse_loss(self.model()(noisy), target.float())

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c", "d"], ["y"]), batch_size=8, drop_last=True)
