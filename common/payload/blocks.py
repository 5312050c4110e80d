"""Read safetensors files in blocks of numbers, so that memory does not depend on the size of a model.

Works on numpy alone; bfloat16, which numpy lacks, is the upper half of a float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from common.errors import InvalidTensorsError
from common.payload.header import ITEM_BYTES, Content, TensorEntry, TensorIndex, read_header

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

BLOCK_ELEMENTS: Final = 64 * 1024
"""As float64 they fit the cache of one core, which halves the time of an average."""

_NUMPY: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("u1"),
}
_BF16_EXPONENT: Final = 0x7F80


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tensors of a file lie, and the bytes that say so."""

    header: bytes
    index: TensorIndex


class BlockFile:
    """A safetensors file from which any run of elements can be read.

    Args:
        source: The file.
        like: The layout of another file; one that begins with the same bytes and is as long has the same layout, and its
            header need not be parsed.

    Raises:
        InvalidTensorsError: If the file is not valid safetensors.
    """

    def __init__(self, source: Content, like: Layout | None = None) -> None:
        self._file = source if isinstance(source, bytes) else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.layout = like if like is not None and self._is_like(like) else self._parsed(source)
        except BaseException:
            self._close()
            raise
        self.index = self.layout.index

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def read(self, name: str, first: int, count: int) -> Array:
        """Return `count` elements of a tensor from element `first` on, as they are stored.

        Raises:
            InvalidTensorsError: If the file is shorter than it was.
        """
        entry = self.index[name]
        width = ITEM_BYTES[entry.dtype]
        data = self._bytes(entry.start + first * width, count * width)
        if len(data) != count * width:
            raise InvalidTensorsError(reason="the file changed while it was read")
        return np.frombuffer(data, dtype=_NUMPY[entry.dtype])

    def _is_like(self, like: Layout) -> bool:
        size = len(self._file) if isinstance(self._file, bytes) else os.fstat(self._file).st_size
        return size == like.index.size_bytes and like.header == self._bytes(0, len(like.header))

    def _parsed(self, source: Content) -> Layout:
        index = read_header(source)
        length = min((entry.start for entry in index.values()), default=index.size_bytes)
        return Layout(self._bytes(0, length), index)

    def _bytes(self, start: int, count: int) -> bytes:
        if isinstance(self._file, bytes):
            return self._file[start : start + count]
        return os.pread(self._file, count, start)

    def _close(self) -> None:
        if not isinstance(self._file, bytes):
            os.close(self._file)


def blocks(entry: TensorEntry) -> Iterator[tuple[int, int]]:
    """Yield first element and number of elements of each block of a tensor."""
    for first in range(0, entry.elements, BLOCK_ELEMENTS):
        yield first, min(BLOCK_ELEMENTS, entry.elements - first)


def finite(block: Array, dtype: str) -> bool:
    """Tell whether no element is infinite or not a number."""
    if dtype == "BF16":
        return bool(np.all((block & _BF16_EXPONENT) != _BF16_EXPONENT))
    return block.dtype.kind != "f" or bool(np.isfinite(block).all())


def to_doubles(block: Array, dtype: str) -> Doubles:
    """Return stored elements as float64; exact, except for integers beyond 2**53."""
    if dtype == "BF16":
        return (block.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return block.astype(np.float64)


def from_doubles(values: Doubles, dtype: str) -> Array:
    """Return finite float64 numbers as elements to store, rounded to the nearest, ties to even."""
    target = _NUMPY[dtype]
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(target)
    if target.kind == "f":
        return values.astype(target)
    limits = np.iinfo(target)
    # 2**63 - 1 is no float64: what rounds up to 2**63 is taken back below it before the cast
    top = np.nextafter(float(limits.max) + 1.0, 0.0) if limits.bits == 64 else float(limits.max)
    return np.clip(np.rint(values), float(limits.min), top).astype(target)
