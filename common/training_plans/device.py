"""Bring what a plan computes with to the device that it computes on, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from common.data import Loader


def to_device(value: Any, device: torch.device | str) -> Any:
    """Return a value whose tensors are on a device, however deep they lie in mappings, lists and tuples.

    What is there already, and whatever is no tensor, stays the same object.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: to_device(item, device) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    return value


@contextmanager
def on_device(model: nn.Module, device: str) -> Iterator[None]:
    """Keep a model on a device for a while; afterwards it is on the CPU, its parameters the same objects as before."""
    if device == "cpu" and all(
        value.device.type == "cpu" for value in (*model.parameters(), *model.buffers())
    ):
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to("cpu")


class Moved:
    """The batches of another loader, on a device.

    Args:
        loader: Gives batches on the CPU.
        device: Where they go.
    """

    def __init__(self, loader: Loader, device: str) -> None:
        self.samples = loader.samples
        self._loader = loader
        self._device = device

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return (to_device(batch, self._device) for batch in self._loader)


def moved(loader: Loader, device: str) -> Loader:
    """Return a loader whose batches are on a device; the same one if that is the CPU, where they are."""
    return loader if device == "cpu" else Moved(loader, device)
