"""Read safetensors in blocks of numbers, so that memory does not depend on the size of a model.

Works on numpy alone; bfloat16, which numpy lacks, is the upper half of a float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from common.errors import InvalidTensorsError
from common.payload.header import ITEM_BYTES, TensorEntry, TensorIndex, read_header

Content = Path | bytes
"""A payload: the file that it is in, or all of its bytes where they are few."""
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
    """Safetensors from which any run of elements can be read.

    Args:
        content: A file, or its bytes.
        like: The layout of another file; one that begins with the same bytes and is as long has the same layout, and its
            header need not be parsed.

    Raises:
        InvalidTensorsError: If the file is not valid safetensors.
    """

    _seen: ClassVar[Layout | None] = None
    """The layout that was parsed last: the next file is often alike."""

    def __init__(self, content: Content, like: Layout | None = None) -> None:
        self._bytes = content if isinstance(content, bytes) else None
        self._descriptor = -1 if isinstance(content, bytes) else os.open(content, os.O_RDONLY | os.O_CLOEXEC)
        try:
            known = (one for one in (like, self._seen) if one is not None and self._is_like(one))
            self.layout = next(known, None) or self._parsed(content)
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
        data = self._read(entry.start + first * width, count * width)
        if len(data) != count * width:
            raise InvalidTensorsError(reason="the file changed while it was read")
        return np.frombuffer(data, dtype=_NUMPY[entry.dtype])

    def _is_like(self, like: Layout) -> bool:
        size = os.fstat(self._descriptor).st_size if self._bytes is None else len(self._bytes)
        return size == like.index.size_bytes and like.header == self._read(0, len(like.header))

    def _parsed(self, content: Content) -> Layout:
        index = read_header(content)
        length = min((entry.start for entry in index.values()), default=index.size_bytes)
        BlockFile._seen = Layout(self._read(0, length), index)
        return BlockFile._seen

    def _read(self, start: int, length: int) -> bytes:
        if self._bytes is None:
            return os.pread(self._descriptor, length, start)
        return self._bytes[start : start + length]

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


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
