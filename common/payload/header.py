"""Read the header of a safetensors file without trusting it, and without torch.

file = length of the JSON (8 bytes, little endian) | JSON, padded with blanks | tensor bytes, without gaps
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Final, NoReturn

from common.errors import InvalidTensorsError
from common.limits import PAYLOAD_BYTES

PREFIX_BYTES: Final = 8
JSON_BYTES: Final = 8 * 1024 * 1024
"""Largest JSON that is read, enough for some 80,000 tensors; checked before anything is allocated."""

BUFFERS: Final = "buffers"
"""Key of a model's metadata whose value lists, as JSON, the tensors that are no parameters."""

SUMS: Final = "sum."
"""Begins the names of the tensors of a model that are statistics, to be added up over nodes."""

ITEM_BYTES: Final[Mapping[str, int]] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of one element, for every dtype that a model may have here."""

Content = bytes | Path
"""A safetensors file, or its bytes where they are few."""

_KNOWN: Final = 16
_KNOWN_BYTES: Final = 64 * 1024
"""So many headers up to this size are remembered: round after round they are the same."""

_MOST_DIMENSIONS: Final = 32
_LONGEST_NAME: Final = 500


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies in a file.

    Attributes:
        dtype: Name of the dtype as safetensors writes it, `F32` for instance.
        shape: Sizes of the dimensions; empty for a scalar.
        start: Offset of its first byte from the start of the file.
        end: Offset behind its last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def elements(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class TensorIndex(Mapping[str, TensorEntry]):
    """The tensors of a file by name, in the order of their bytes.

    Attributes:
        entries: Where each tensor lies.
        metadata: Texts that the writer added.
        size_bytes: Size of the whole file.
    """

    entries: Mapping[str, TensorEntry] = field(repr=False)
    metadata: Mapping[str, str]
    size_bytes: int

    @property
    def buffers(self) -> frozenset[str]:
        """Return the tensors that are no parameters: running statistics and the like."""
        return frozenset(json.loads(self.metadata.get(BUFFERS, "[]")))

    def __getitem__(self, name: str) -> TensorEntry:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def read_header(source: Content | bytearray | memoryview) -> TensorIndex:
    """Return what a safetensors file holds, after checking everything that its header can lie about.

    Reads the header alone. Every byte behind it belongs to exactly one tensor, and every tensor is as long as its shape
    says, so whoever holds the index may read the ranges without further checks.

    Raises:
        InvalidTensorsError: If anything is wrong; says what.
    """
    if not isinstance(source, Path):
        view = memoryview(source)
        length = _json_length(bytes(view[:PREFIX_BYTES]), len(view))
        return _index(bytes(view[PREFIX_BYTES : PREFIX_BYTES + length]), len(view))
    try:
        with source.open("rb", buffering=0) as file:
            return read_header_of(file)
    except OSError as error:
        raise InvalidTensorsError(reason=f"it cannot be read: {error.strerror}") from error


def read_header_of(file: FileIO) -> TensorIndex:
    """Return what an open file holds, checked like `read_header`; reads from its start.

    Raises:
        InvalidTensorsError: If anything is wrong; says what.
    """
    size = os.fstat(file.fileno()).st_size
    length = _json_length(file.read(PREFIX_BYTES) or b"", size)
    header = file.read(length) or b""
    if len(header) != length:
        _refuse("the file changed while it was read")
    return _index(header, size)


def _json_length(prefix: bytes, size: int) -> int:
    if len(prefix) < PREFIX_BYTES:
        _refuse(f"{size} bytes are too few for a header")
    if size > PAYLOAD_BYTES:
        _refuse(f"{size} bytes are more than {PAYLOAD_BYTES}")
    length = int.from_bytes(prefix, "little")
    if length > JSON_BYTES:
        _refuse(f"a header of {length} bytes is larger than {JSON_BYTES}")
    if PREFIX_BYTES + length > size:
        _refuse(f"a header of {length} bytes does not fit in {size} bytes")
    return length


def _index(header: bytes, size: int) -> TensorIndex:
    return _known(header, size) if len(header) <= _KNOWN_BYTES else _parsed(header, size)


def _parsed(header: bytes, size: int) -> TensorIndex:
    if not header.startswith(b"{"):
        _refuse("the header is not a JSON object")
    try:
        document = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidTensorsError(reason="the header is not JSON") from error
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse("its metadata are not texts")
    begin = PREFIX_BYTES + len(header)
    entries = {_name(name): _entry(name, value, begin, size) for name, value in document.items()}
    # an empty tensor shares its offset with the one that follows, so the end decides between them
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)))
    reached = begin
    for name, entry in ordered.items():
        if entry.start != reached:
            _refuse(f"tensor {name!r} starts at {entry.start}, and {reached} was expected")
        reached = entry.end
    if reached != size:
        _refuse(f"{size - reached} bytes belong to no tensor")
    return TensorIndex(ordered, metadata, size)


_known = functools.lru_cache(_KNOWN)(_parsed)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        _refuse("a key occurs twice")
    return document


def _name(name: str) -> str:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        _refuse("a tensor's name is empty, too long, or not printable")
    return name


def _entry(name: str, value: object, begin: int, size: int) -> TensorEntry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _refuse(f"tensor {name!r} is of an unknown dtype")
    if not _whole(shape) or len(shape) > _MOST_DIMENSIONS:
        _refuse(f"tensor {name!r} has an impossible shape")
    if not _whole(offsets) or len(offsets) != 2:
        _refuse(f"tensor {name!r} has impossible offsets")
    start, end = begin + offsets[0], begin + offsets[1]
    if not start <= end <= size:
        _refuse(f"tensor {name!r} lies outside the file")
    if any(side > size for side in shape) and 0 not in shape:
        _refuse(f"tensor {name!r} has a shape larger than the file")
    if math.prod(shape) * ITEM_BYTES[dtype] != end - start:
        _refuse(f"tensor {name!r} has {end - start} bytes, which its shape and dtype contradict")
    return TensorEntry(dtype, tuple(shape), start, end)


def _whole(value: object) -> bool:
    """Say whether a value is a list of integers of 0 to 2**63 - 1; JSON's true is none."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _refuse(reason: str) -> NoReturn:
    raise InvalidTensorsError(reason=reason)
