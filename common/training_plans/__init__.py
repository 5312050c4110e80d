"""Define what a researcher writes: the training plan."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.training_plans.base import TrainingPlan
    from common.training_plans.preprocess import ProcessTypes
    from common.training_plans.torch import TorchTrainingPlan

__all__ = ["ProcessTypes", "TorchTrainingPlan", "TrainingPlan"]

_HOMES = {
    "ProcessTypes": "common.training_plans.preprocess",
    "TrainingPlan": "common.training_plans.base",
    "TorchTrainingPlan": "common.training_plans.torch",
}


def __getattr__(name: str) -> Any:
    # the node agent hashes plans and must not load torch for that
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # found without this function from now on
    return value
