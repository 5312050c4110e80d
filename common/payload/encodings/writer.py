"""Write a safetensors file in blocks and in any order, given what will be in it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from common.errors import InvalidTensorsError
from common.ids import Digest
from common.payload.blocks import Array
from common.payload.header import ITEM_BYTES, JSON_BYTES, PREFIX_BYTES, TensorEntry, TensorIndex
from common.sqlite import storage_errors

Kind = tuple[str, tuple[int, ...]]
"""dtype and shape of a tensor."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written."""

    sha256: Digest
    size_bytes: int


def layout(kinds: Mapping[str, Kind], metadata: Mapping[str, str] | None = None) -> tuple[bytes, TensorIndex]:
    """Return the header of a file with these tensors, and where each of them lies.

    The order is that of `common.payload.tensors.save_tensors`: descending element size, which keeps tensors aligned, then name.

    Raises:
        InvalidTensorsError: If there are so many tensors that nobody would read the header.
    """
    metadata = dict(sorted((metadata or {}).items()))
    document: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offsets: dict[str, tuple[int, int]] = {}
    end = 0
    for name in sorted(kinds, key=lambda name: (-ITEM_BYTES[kinds[name][0]], name)):
        dtype, shape = kinds[name]
        start, end = end, end + math.prod(shape) * ITEM_BYTES[dtype]
        offsets[name] = (start, end)
        document[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > JSON_BYTES:
        raise InvalidTensorsError(reason=f"a header of {len(text)} bytes is larger than {JSON_BYTES}")
    begin = PREFIX_BYTES + len(text)
    entries = {
        name: TensorEntry(*kinds[name], begin + start, begin + stop)
        for name, (start, stop) in offsets.items()
    }
    return len(text).to_bytes(PREFIX_BYTES, "little") + text, TensorIndex(entries, metadata, begin + end)


class BlockWriter:
    """A safetensors file that is being written.

    It appears under its name, whole, when `finish` returns; leaving the `with` block earlier leaves nothing behind.

    Raises:
        DiskFullError: If there is no space; also from the methods.
        InvalidTensorsError: If there are too many tensors.
    """

    def __init__(
        self, path: Path, kinds: Mapping[str, Kind], metadata: Mapping[str, str] | None = None
    ) -> None:
        header, self.index = layout(kinds, metadata)
        self._path = path
        self._draft = path.with_name(path.name + ".part")
        with storage_errors(self._draft):
            self._file = self._draft.open("w+b")
            self._file.write(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def write(self, name: str, first: int, block: Array) -> None:
        """Write elements of a tensor from element `first` on, as they are stored."""
        entry = self.index[name]
        with storage_errors(self._draft):
            self._file.seek(entry.start + first * ITEM_BYTES[entry.dtype])
            self._file.write(block.data)

    def finish(self) -> WrittenFile:
        """Give the file its name and return its digest; every element was written."""
        with storage_errors(self._draft):
            self._file.flush()
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, "sha256").hexdigest()
            self._draft.replace(self._path)
        return WrittenFile(Digest(digest), self.index.size_bytes)
