"""Read an encoded file as if it were not encoded."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from common.errors import InvalidTensorsError
from common.payload.blocks import Array, BlockFile, blocks, from_doubles, to_doubles
from common.payload.encodings.forms import SPAN
from common.payload.encodings.note import decoded_kinds, read_note
from common.payload.encodings.writer import BlockWriter, WrittenFile, layout
from common.payload.header import Content, TensorIndex


class DecodedFile:
    """A file of any encoding, also of none, from which any run of elements can be read as it was before.

    Has the interface of `BlockFile`, and like it trusts nothing that the file says. What the header can lie about is found when
    the file is opened, what the numbers can lie about when they are read.

    Args:
        source: The file.
        base: The global model that an update is about, decoded; none to read a global model.

    Raises:
        InvalidTensorsError: If a file is not valid safetensors, or the note about its encoding does not fit.
    """

    def __init__(self, source: Content, base: Content | None = None) -> None:
        with ExitStack() as stack:
            self._file = stack.enter_context(BlockFile(source))
            self._note = read_note(self._file.index)
            self._base: BlockFile | None = None
            if self._note is not None and self._note.of == "change":
                if base is None:
                    raise InvalidTensorsError(reason="it holds changes, and nothing that they could be about")
                self._base = stack.enter_context(BlockFile(base))
            self.encoding = self._note.encoding if self._note else None
            """Its encoding as the file names it; none if nothing in it is encoded."""
            kinds = decoded_kinds(self._file.index, self._note, self._base.index if self._base else None)
            self.index: TensorIndex = layout(kinds)[1]
            """The tensors as they would lie in a file that is not encoded."""
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, name: str, first: int, count: int) -> Array:
        """Return `count` elements of a tensor from element `first` on, as they would be stored without encoding.

        Raises:
            InvalidTensorsError: If parts of the tensor hold what no encoder writes, or the file is shorter than it was.
        """
        if self._note is None or name not in self._note.dtypes:
            return self._file.read(name, first, count)
        form, entry = self._note.form, self.index[name]
        begin = first - first % SPAN
        end = min(first + count + -(first + count) % SPAN, entry.elements)
        parts = {
            suffix: self._file.read(name + suffix, start, length)
            for suffix, (start, length) in form.runs(begin, end - begin).items()
        }
        numbers = form.unpack(name, parts, end - begin)[first - begin : first - begin + count]
        if self._base is not None:
            numbers += to_doubles(self._base.read(name, first, count), entry.dtype)
        with np.errstate(over="ignore"):  # what grows beyond the dtype is infinite, for the gate to see
            return from_doubles(numbers, entry.dtype)


def decode_file(source: Content, target: Path, base: Content | None = None) -> WrittenFile:
    """Write what an encoded file stands for, as a safetensors file without encoding.

    Args:
        source: A file of any encoding; stays.
        target: Where to write; the file appears whole or not at all.
        base: The global model that an update is about; none for a global model.

    Raises:
        InvalidTensorsError: If the source is not valid.
        DiskFullError: If there is no space; nothing is left behind.
    """
    with DecodedFile(source, base) as file:
        kinds = {name: (entry.dtype, entry.shape) for name, entry in file.index.items()}
        with BlockWriter(target, kinds) as out:
            for name, entry in file.index.items():
                for first, count in blocks(entry):
                    out.write(name, first, file.read(name, first, count))
            return out.finish()
