"""Give the handwritten digits of MNIST to a training plan."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset
from common.datasets.families.base import Options, parsed
from common.datasets.files import inside
from common.datasets.formats import MNIST_IMAGES, MNIST_LABELS
from common.errors import DataFileError

SIDE: Final = 28
CLASSES: Final = tuple("0123456789")

_MOST: Final = 1_000_000
"""Digits in one file: a small file can unpack to any size."""


class MnistDataset(Dataset):
    """The training digits of MNIST: float32 of the shape (1, 28, 28) from 0 to 1, and the digit as int64.

    Args:
        transform: Applied to each array of that shape.
        target_transform: Applied to each digit.
    """

    data_types = frozenset({"mnist"})

    def __init__(
        self,
        transform: Callable[[NDArray[np.float32]], Any] | None = None,
        target_transform: Callable[[np.int64], Any] | None = None,
    ) -> None:
        self._transform = transform
        self._target_transform = target_transform
        self._rows = np.empty(0, np.int64)
        self._images: NDArray[np.float32] = np.empty((0, 1, SIDE, SIDE), np.float32)
        self._digits = np.empty(0, np.int64)

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read all digits.

        Raises:
            InvalidDatasetError: If what was registered with the folder cannot be understood.
            DataFileError: If a file is gone or damaged.
        """
        unused = parsed(Options, parameters).unused
        images, digits = read_mnist(path)
        self._rows = np.array([row for row in range(len(digits)) if str(row) not in unused], np.int64)
        self._images = images[self._rows, None].astype(np.float32) / np.float32(255)
        self._digits = digits[self._rows].astype(np.int64)

    def __len__(self) -> int:
        return len(self._digits)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        data, target = self._images[index], self._digits[index]
        return (
            self._transform(data) if self._transform else data,
            self._target_transform(target) if self._target_transform else target,
        )

    def sample_ids(self) -> NDArray[np.int64]:
        """Return the position of each digit in the file."""
        return self._rows

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return images and digits, unless they have to be transformed one by one."""
        return None if self._transform or self._target_transform else (self._images, self._digits)


def read_mnist(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images and digits of the two training files, packed with gzip or not.

    Raises:
        DataFileError: If one is missing, damaged, or does not fit the other.
    """
    path, raw = _read(folder, MNIST_LABELS, 8 + _MOST)
    digits = _array(path, raw, (0x801, 1))
    path, raw = _read(folder, MNIST_IMAGES, 16 + _MOST * SIDE * SIDE)
    images = _array(path, raw, (0x803, 3))
    if images.shape != (len(digits), SIDE, SIDE) or not len(digits) or digits.max() > 9:
        raise DataFileError(path=path, data_type="MNIST", reason="images and digits do not fit each other")
    return images, digits


def _read(folder: Path, name: str, most: int) -> tuple[Path, bytes]:
    path = folder / name
    packed = not path.exists()
    path = inside(folder, f"{name}.gz" if packed else name)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            raw: bytes = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(path=path, data_type="MNIST", reason="it is damaged") from error
    return path, raw


def _array(path: Path, raw: bytes, expected: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the array in the bytes of an IDX file of a kind and number of dimensions."""
    magic, dimensions = expected
    numbers = [int.from_bytes(raw[4 * n : 4 * n + 4]) for n in range(1 + dimensions)]
    content = raw[4 * (1 + dimensions) :]
    if numbers[0] != magic or len(content) != np.prod(numbers[1:], dtype=object):
        raise DataFileError(path=path, data_type="MNIST", reason="its header does not fit its content")
    return np.frombuffer(content, np.uint8).reshape(numbers[1:])
