"""Take one step down the gradient of a loss, in the precision and within the bounds that the training arguments ask for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.training_args import TrainingArgs


def autocast(args: TrainingArgs, device: str) -> AbstractContextManager[Any]:
    """Return the context in which losses and metrics are computed: mixed precision if it is asked for."""
    if args.autocast is None:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=getattr(torch, args.autocast))


class Descent:
    """Steps an optimizer.

    The learning rates that the optimizer came with are multiplied once by the factor of the round. Each step clips the gradients of the
    parameters that the optimizer steps, first by value and then by norm. With `float16` the loss is scaled before and the gradient after, and
    a step whose gradient is not finite is left out (Micikevicius et al., ICLR 2018, section 3.2).

    Args:
        optimizer: What it steps.
        args: How.
        round_: Number of the round, from 1.
        device: Where the model is.
    """

    def __init__(self, optimizer: Optimizer, args: TrainingArgs, round_: int, device: str) -> None:
        self._optimizer = optimizer
        self._value = args.clip_grad_value
        self._norm = args.clip_grad_norm
        self._parameters = [value for group in optimizer.param_groups for value in group["params"]]
        scaled = args.autocast == "float16"
        self._scaler = torch.amp.GradScaler(torch.device(device).type) if scaled else None
        if args.lr_schedule is not None:
            for group in optimizer.param_groups:
                group["lr"] *= args.lr_schedule.factor(round_)

    def step(self, loss: Tensor) -> None:
        """Step down the gradient of a loss; gradients were zero before."""
        torch.autograd.backward(self._scaler.scale(loss) if self._scaler else loss)
        if self._value is not None or self._norm is not None:
            if self._scaler:
                self._scaler.unscale_(self._optimizer)
            self._clip()
        if self._scaler:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._optimizer.step()

    def _clip(self) -> None:
        if self._value is not None:
            nn.utils.clip_grad_value_(self._parameters, self._value)
        if self._norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._norm)
