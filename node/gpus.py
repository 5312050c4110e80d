"""Decide which GPUs workers may use, and whether a task is done on one.

The people of a node offer GPUs in its policy, a researcher asks for one in the training arguments. What a worker may not use it
cannot open: the wall around its files lets through the device files of the offered GPUs alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from common.messages import GpuNotice

__all__ = ["Choice", "GpuOffer", "choose_device", "device_files", "environment"]

GpuOffer = Literal["none", "offer", "only"]
"""Nothing is offered; tasks that ask for a GPU get one; or all tasks do."""

_SHARED: Final = frozenset({"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"})
"""What a process needs beside the file of a GPU itself."""
_GPU: Final = re.compile(r"nvidia(\d+)")


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a task is done.

    Attributes:
        device: `cpu` or `cuda`, as torch calls them.
        notice: Why it is not a GPU although one was wanted.
    """

    device: str
    notice: GpuNotice | None = None


def choose_device(offer: GpuOffer, *, asked: bool, found: int) -> Choice:
    """Return where a task is done.

    Args:
        offer: What the node offers.
        asked: Whether the researcher asks for a GPU.
        found: How many GPUs torch sees in the worker.
    """
    if not asked and offer != "only":
        return Choice("cpu")
    if offer == "none":
        return Choice("cpu", "gpu_not_offered")
    return Choice("cuda") if found else Choice("cpu", "gpu_not_found")


def device_files(found: Iterable[Path], offer: GpuOffer, pinned: int | None) -> tuple[Path, ...]:
    """Return the device files that workers may open.

    Args:
        found: What is in `/dev`.
        offer: What the node offers.
        pinned: Number of the one GPU that it offers; all if not given.
    """
    if offer == "none":
        return ()
    files = sorted(found)
    gpus = [path for path in files if (gpu := _GPU.fullmatch(path.name)) and pinned in (None, int(gpu[1]))]
    return (*gpus, *(path for path in files if path.name in _SHARED)) if gpus else ()


def environment(offer: GpuOffer, pinned: int | None) -> dict[str, str]:
    """Return the variables that tell CUDA in a worker which GPUs there are: the offered ones, in the order of the machine's slots."""
    if offer == "none":
        return {"CUDA_VISIBLE_DEVICES": ""}
    pin = {} if pinned is None else {"CUDA_VISIBLE_DEVICES": str(pinned)}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **pin}
