"""Put optimizers together from modules and regularizers, for the researcher's side or for a plan."""

from common.optimizers.modules import (
    AdaGradModule,
    AdamModule,
    EWMAModule,
    Module,
    MomentumModule,
    RMSPropModule,
    YogiModule,
)
from common.optimizers.optimizer import Optimizer, optimizer_config, optimizer_of
from common.optimizers.regularizers import FedProxRegularizer, LassoRegularizer, Regularizer, RidgeRegularizer

__all__ = [
    "AdaGradModule",
    "AdamModule",
    "EWMAModule",
    "FedProxRegularizer",
    "LassoRegularizer",
    "Module",
    "MomentumModule",
    "Optimizer",
    "RMSPropModule",
    "Regularizer",
    "RidgeRegularizer",
    "YogiModule",
    "optimizer_config",
    "optimizer_of",
]
