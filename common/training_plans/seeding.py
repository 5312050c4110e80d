"""Derive the random streams of a task from the seed of its round."""

from __future__ import annotations

import functools
import hashlib
import random
from typing import Final

import numpy as np
import torch

_NUMPY_SEEDS: Final = 2**32


@functools.lru_cache(64, typed=True)
def derived_seed(*parts: int | str) -> int:
    """Return 63 bits of the SHA-256 of these parts: another stream for each combination, the same everywhere."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of `random`, `numpy` and `torch`."""
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002 - plans use the global generator
    torch.default_generator.manual_seed(
        seed
    )  # torch.manual_seed formats a stack trace first, which takes 1 ms
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
