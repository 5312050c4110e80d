"""Let a training plan read whatever a node registered, in its own way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset


class CustomDataset(Dataset):
    """A data set that a training plan defines: it reads the path that a node registered, of any type.

    A subclass in the plan gives `read`, `get_item` and `__len__`. Its samples count by their position; `sample_ids` can say otherwise.
    """

    path: Path
    """The registered file or folder, once the set is bound."""
    parameters: Mapping[str, JsonValue]
    """What was registered with it."""

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Remember where the data are, and let the subclass read them."""
        self.path = path
        self.parameters = dict(parameters)
        self.read()

    @abstractmethod
    def read(self) -> None:
        """Read what is at `self.path`, or as much of it as `get_item` needs."""

    @abstractmethod
    def get_item(self, index: int) -> tuple[Any, Any]:
        """Return the input and the target of one sample, as numbers, arrays or tensors."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.get_item(index)

    def sample_ids(self) -> NDArray[np.int64]:
        """Return the position of each sample."""
        return np.arange(len(self), dtype=np.int64)
