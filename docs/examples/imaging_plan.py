"""Tell radiographs apart with a small convolutional network."""

from typing import Any

import torch
from torch import Tensor, nn

from common.data import DataManager
from common.datasets import ImageFolderDataset
from common.training_plans import TorchTrainingPlan

SIZE = 64


class ImagingPlan(TorchTrainingPlan):
    """Two convolutions and a linear layer on grey images of 64 x 64, normalised in groups, which need no statistics of any node."""

    def init_model(self, model_args: dict[str, Any]) -> nn.Module:
        """Return the network; `classes` are the names of the folders."""
        return nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, stride=2),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.Conv2d(8, 16, kernel_size=3, stride=2),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, len(model_args["classes"])),
        )

    def init_optimizer(self, optimizer_args: dict[str, Any]) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.model().parameters(), lr=optimizer_args["lr"])

    def training_data(self) -> DataManager:
        """Return the images of this hospital; each is read when it is needed."""
        dataset = ImageFolderDataset(classes=self.model_args()["classes"], mode="L", size=(SIZE, SIZE))
        return DataManager(dataset, batch_size=16)

    def training_step(self, data: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy."""
        return nn.functional.cross_entropy(self.model()(data), target)
