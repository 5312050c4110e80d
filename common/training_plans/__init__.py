"""Define what a researcher writes: the training plan."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from common.training_plans.base import TrainingPlan
    from common.training_plans.cox import FedCoxPH
    from common.training_plans.naive_bayes import FedBernoulliNB, FedGaussianNB
    from common.training_plans.newton import FedLinearRegression, FedLogisticRegression, FedRidge
    from common.training_plans.preprocess import ProcessTypes
    from common.training_plans.sklearn import (
        FedMLPClassifier,
        FedPerceptron,
        FedSGDClassifier,
        FedSGDRegressor,
    )
    from common.training_plans.torch import TorchTrainingPlan
    from common.training_plans.trees import FedXGBClassifier, FedXGBRegressor

__all__ = [
    "FedBernoulliNB",
    "FedCoxPH",
    "FedGaussianNB",
    "FedLinearRegression",
    "FedLogisticRegression",
    "FedMLPClassifier",
    "FedPerceptron",
    "FedRidge",
    "FedSGDClassifier",
    "FedSGDRegressor",
    "FedXGBClassifier",
    "FedXGBRegressor",
    "ProcessTypes",
    "TorchTrainingPlan",
    "TrainingPlan",
]

_HOMES: Final = {
    "base": ("TrainingPlan",),
    "cox": ("FedCoxPH",),
    "naive_bayes": ("FedBernoulliNB", "FedGaussianNB"),
    "newton": ("FedLinearRegression", "FedLogisticRegression", "FedRidge"),
    "preprocess": ("ProcessTypes",),
    "sklearn": ("FedMLPClassifier", "FedPerceptron", "FedSGDClassifier", "FedSGDRegressor"),
    "torch": ("TorchTrainingPlan",),
    "trees": ("FedXGBClassifier", "FedXGBRegressor"),
}


def __getattr__(name: str) -> Any:
    # the node agent hashes plans and must not load torch for that
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # found without this function from now on
    return value
