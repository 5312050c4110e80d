"""Compute the losses of scikit-learn's stochastic gradient descent, with gradients.

They are those of `SGDClassifier` and `SGDRegressor` (scikit-learn user guide, section 1.5.8), each a function of the output, the target (-1 or 1 for
classes) and `epsilon`, number by number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, float], Tensor]


def _modified_huber(output: Tensor, target: Tensor, epsilon: float) -> Tensor:  # noqa: ARG001 - one signature for all
    margin = output * target
    return torch.where(margin >= -1, (1 - margin).clamp(min=0).square(), -4 * margin)


def _huber(output: Tensor, target: Tensor, epsilon: float) -> Tensor:
    left = (output - target).abs()
    return torch.where(left <= epsilon, left.square() / 2, epsilon * left - epsilon**2 / 2)


LOSSES: Final[Mapping[str, Loss]] = {
    "hinge": lambda output, target, _: (1 - output * target).clamp(min=0),
    "perceptron": lambda output, target, _: (-output * target).clamp(min=0),
    "log_loss": lambda output, target, _: functional.softplus(-output * target),
    "squared_hinge": lambda output, target, _: (1 - output * target).clamp(min=0).square(),
    "modified_huber": _modified_huber,
    "squared_error": lambda output, target, _: (output - target).square() / 2,
    "huber": _huber,
    "epsilon_insensitive": lambda output, target, epsilon: ((output - target).abs() - epsilon).clamp(min=0),
    "squared_epsilon_insensitive": lambda output, target, epsilon: (
        ((output - target).abs() - epsilon).clamp(min=0).square()
    ),
}
"""The losses by scikit-learn's names."""
