"""Train a logistic regression on the hospitals of the UCI heart-disease study."""

from typing import Any

import torch
from torch import Tensor, nn

from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan

INPUTS = (
    "age",
    "sex",
    "resting_pressure",
    "cholesterol",
    "high_fasting_sugar",
    "max_heart_rate",
    "exercise_angina",
    "st_depression",
    "pain_atypical",
    "pain_not_anginal",
    "pain_absent",
    "ecg_st_t",
    "ecg_hypertrophy",
)


class HeartPlan(TorchTrainingPlan):
    """Tell ill from healthy patients by 13 features, each standardised by the hospital itself."""

    def init_model(self, model_args: dict[str, Any]) -> nn.Module:
        """Return 13 weights and an intercept, all zero: the problem has one minimum, so the start does not matter."""
        model = nn.Linear(len(INPUTS), 1, **model_args)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return model

    def init_optimizer(self, optimizer_args: dict[str, Any]) -> torch.optim.Optimizer:
        """Return plain gradient descent."""
        return torch.optim.SGD(self.model().parameters(), **optimizer_args)

    def training_data(self) -> DataManager:
        """Return the patients of this hospital, all in one batch."""
        dataset = TabularDataset(
            input_columns=INPUTS,
            target_columns="target",
            split_column="split",
            standardize=True,
            target_dtype="float32",
        )
        return DataManager(dataset, batch_size=None)

    def predict(self, data: Tensor) -> Tensor:
        """Return one score for each patient: above 0 means ill."""
        scores: Tensor = self.model()(data)
        return scores.squeeze(1)

    def training_step(self, data: Tensor, target: Tensor) -> Tensor:
        """Return the log-loss."""
        return nn.functional.binary_cross_entropy_with_logits(self.predict(data), target)

    def testing_step(self, data: Tensor, target: Tensor) -> dict[str, float]:
        """Return accuracy and log-loss on the patients that were held back."""
        scores = self.predict(data)
        right = (scores > 0) == (target > 0)
        loss = nn.functional.binary_cross_entropy_with_logits(scores, target)
        return {"accuracy": right.float().mean().item(), "loss": loss.item()}
