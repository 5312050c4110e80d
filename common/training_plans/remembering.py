"""Write what a torch optimizer remembers as tensors with names, and give it back to the optimizer of the next round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def remembered(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer remembers of each parameter; names begin with its class, whole numbers become 0-d int64."""
    kind = type(optimizer).__name__
    tensors = {}
    for position, own in optimizer.state_dict()["state"].items():
        for key, value in own.items():
            if isinstance(value, int | float | Tensor):
                made = value if isinstance(value, Tensor) else torch.tensor(value)
                tensors[f"{kind}/{position}/{key}"] = made.detach().clone()
    return tensors


def recall(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer what the one of the round before remembered; what another kind of optimizer remembered is left out.

    Learning rates and other settings stay as they are.

    Raises:
        ValueError: If it steps other parameters.
    """
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    state: dict[int, dict[str, Any]] = defaultdict(dict)
    for name, value in tensors.items():
        kind, position, key = name.split("/", 2)
        if kind != type(optimizer).__name__:
            continue
        number = int(position)
        if number >= len(parameters):
            raise ValueError(f"it has no parameter {number}")
        whole = value.dtype is torch.int64 and value.dim() == 0
        state[number][key] = int(value) if whole else value.clone()
    if not state:
        return
    optimizer.load_state_dict(optimizer.state_dict() | {"state": dict(state)})
