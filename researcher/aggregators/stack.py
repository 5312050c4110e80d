"""Read the updates of a round beside each other, a block of numbers at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from common.payload.blocks import BLOCK_ELEMENTS, BlockFile, Doubles, from_doubles, to_doubles
from common.payload.header import Content, TensorEntry
from researcher.aggregators.base import Contribution

_STACKED_ELEMENTS: Final = 8 * BLOCK_ELEMENTS
"""Most numbers of all updates together that are in memory at a time."""
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})


class Stack:
    """The updates of a round and the model that it started from; memory depends on neither models nor nodes.

    Args:
        base: The global model that the round started from.
        contributions: At least one, in node order.
    """

    def __init__(self, base: Content, contributions: Sequence[Contribution]) -> None:
        with ExitStack() as stack:
            self._base = stack.enter_context(BlockFile(base))
            self._files = [stack.enter_context(one.open(base, self._base.layout)) for one in contributions]
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def map(self, combine: Callable[[Doubles], Doubles], target: Path) -> None:
        """Write the model of which each number is made from the same numbers of all updates.

        Args:
            combine: Gets float64 of shape (updates, numbers) and returns one number for each column.
            target: Where to write; names, shapes and dtypes are those of the base.
        """
        with target.open("wb") as out:
            out.write(self._base.layout.header)
            for name, entry in self._base.index.items():
                for values in self._values(name, entry):
                    out.write(from_doubles(combine(values), entry.dtype).data)

    def distances(self) -> Doubles:
        """Return the squared Euclidean distance between every two updates, of shape (updates, updates); only floats count."""
        count = len(self._files)
        total = np.zeros((count, count))
        for name, entry in self._base.index.items():
            if entry.dtype not in _FLOATS:
                continue
            for values in self._values(name, entry):
                for row in range(count):
                    change = values[row + 1 :] - values[row]
                    total[row, row + 1 :] += np.einsum("ij,ij->i", change, change)
        return total + total.T

    def products(self) -> Doubles:
        """Return the inner product of every two changes of the base, of shape (updates, updates); only floats count."""
        total = np.zeros((len(self._files), len(self._files)))
        for change in self._changes():
            total += change @ change.T
        return total

    def norms(self) -> Doubles:
        """Return how far each update is from the base, as a Euclidean distance; only floats count."""
        total = np.zeros(len(self._files))
        for change in self._changes():
            total += np.einsum("ij,ij->i", change, change)
        return np.sqrt(total)

    def _changes(self) -> Iterator[Doubles]:
        """Yield how each update differs from the base, block by block; only floats count."""
        for name, entry in self._base.index.items():
            if entry.dtype not in _FLOATS:
                continue
            for first, count in self._blocks(entry):
                start = to_doubles(self._base.read(name, first, count), entry.dtype)
                yield self._read(name, entry, first, count) - start

    def _values(self, name: str, entry: TensorEntry) -> Iterator[Doubles]:
        return (self._read(name, entry, first, count) for first, count in self._blocks(entry))

    def _blocks(self, entry: TensorEntry) -> Iterator[tuple[int, int]]:
        most = max(1, min(BLOCK_ELEMENTS, _STACKED_ELEMENTS // len(self._files)))
        for first in range(0, entry.elements, most):
            yield first, min(most, entry.elements - first)

    def _read(self, name: str, entry: TensorEntry, first: int, count: int) -> Doubles:
        return np.stack([to_doubles(file.read(name, first, count), entry.dtype) for file in self._files])
