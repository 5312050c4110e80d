"""Let an optimizer of modules step a torch model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from common.optimizers import Optimizer


class TorchStepper(torch.optim.Optimizer):
    """Steps parameters as an `Optimizer` of modules and regularizers says.

    Where the parameters are when this is made counts as the start of the round.

    Args:
        parameters: What it steps; those without a gradient stay as they are.
        optimizer: How.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optimizer: Optimizer) -> None:
        super().__init__(list(parameters), {"lr": optimizer.lr})
        self._optimizer = optimizer
        for value in self._trainable():
            own = {name: torch.full_like(value, first) for name, first in optimizer.memory.items()}
            self.state[value] = {"step": 0, "start": value.detach().clone(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what another stepper remembers; the start of the round stays that of this one."""
        starts = {value: self.state[value]["start"] for value in self._trainable()}
        super().load_state_dict(state_dict)
        for value, start in starts.items():
            self.state[value]["start"] = start

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the learning rate is that of the only group, so that schedulers work."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for value in self._trainable():
            if value.grad is not None:
                self._step(value, value.grad)
        return loss

    def _step(self, value: nn.Parameter, gradient: Tensor) -> None:
        own = self.state[value]
        own["step"] += 1
        memory = {name: own[name] for name in self._optimizer.memory}
        stepped = self._optimizer.stepped(value, gradient, own["start"], memory, own["step"], lr=self._lr)
        value.copy_(stepped)
        own.update(memory)

    @property
    def _lr(self) -> float:
        return float(self.param_groups[0]["lr"])

    def _trainable(self) -> list[nn.Parameter]:
        return [value for group in self.param_groups for value in group["params"] if value.requires_grad]
