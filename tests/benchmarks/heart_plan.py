"""The plan of `make bench-heart`: the logistic regression of FLamby's Fed-Heart-Disease."""

import torch
from torch import nn

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


class HeartBenchmark(TorchTrainingPlan):
    """Batches of 4, torch's own first weights for the seed that was asked for, plain gradient descent."""

    def init_model(self, model_args):
        torch.manual_seed(model_args["seed"])
        return nn.Linear(len(INPUTS), 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=optimizer_args["lr"])

    def training_data(self):
        dataset = TabularDataset(
            input_columns=INPUTS,
            target_columns="target",
            split_column="split",
            standardize=True,
            target_dtype="float32",
        )
        return DataManager(dataset, batch_size=4)

    def training_step(self, data, target):
        return nn.functional.binary_cross_entropy_with_logits(self.model()(data).squeeze(1), target)
