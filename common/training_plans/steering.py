"""Change the gradients of a plan's training as a federated algorithm asks, and count the steps that it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.training_plans.base import Effort


@dataclass(frozen=True, slots=True)
class Steering:
    """What is added to the gradient of each parameter w: offset + pull (w - towards).

    Attributes:
        offsets: By the name of the parameter, of its shape; others have none.
        pull: Factor, at least 0.
        towards: By the name of the parameter, of its shape; needed for those that are pulled.
    """

    offsets: Mapping[str, Tensor] = field(default_factory=dict)
    pull: float = 0.0
    towards: Mapping[str, Tensor] = field(default_factory=dict)


class Guide:
    """Steers an optimizer before each of its steps, after gradients were clipped and unscaled, and counts them.

    Args:
        optimizer: Steps the parameters.
        parameters: By name.
        steering: What to add to their gradients; nothing if not given.
    """

    def __init__(
        self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], steering: Steering | None
    ) -> None:
        self._parameters = parameters
        self._steering = steering
        self._steps = 0
        self._lr_sum: float | None = 0.0
        optimizer.register_step_pre_hook(self._before)

    @property
    def effort(self) -> Effort:
        """Return what training took so far."""
        return Effort(self._steps, self._lr_sum if self._steps else None)

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        self._steps += 1
        rates = {float(group["lr"]) if "lr" in group else None for group in optimizer.param_groups}
        rate = rates.pop() if len(rates) == 1 else None
        self._lr_sum = None if rate is None or self._lr_sum is None else self._lr_sum + rate
        if self._steering is not None:
            self._steer(self._steering)

    def _steer(self, steering: Steering) -> None:
        for name, value in self._parameters.items():
            if value.grad is None:
                continue
            if (offset := steering.offsets.get(name)) is not None:
                value.grad.add_(offset.to(value.grad))
            if steering.pull and (towards := steering.towards.get(name)) is not None:
                value.grad.add_(value - towards.to(value), alpha=steering.pull)
