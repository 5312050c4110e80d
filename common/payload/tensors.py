"""Write and read tensors as safetensors files.

Three things the safetensors library does not give together: the same bytes for the same tensors (metadata included), a
digest computed while writing, and reading one tensor at a time without keeping the pages of those read before.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import torch
from torch import Tensor

from common.errors import InvalidTensorsError
from common.ids import Digest
from common.payload.header import (
    ITEM_BYTES,
    PREFIX_BYTES,
    Content,
    TensorEntry,
    TensorIndex,
    read_header,
    read_header_of,
)
from common.sqlite import storage_errors

DTYPES: Final[Mapping[torch.dtype, str]] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TORCH: Final = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class SavedTensors:
    """A file that was written."""

    sha256: Digest
    size_bytes: int


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> SavedTensors:
    """Write tensors to a file and return its digest.

    The same tensors and metadata give the same bytes: tensors in descending order of element size, which keeps them aligned,
    then by name. Tensors that share memory are each written in full. The file appears whole or not at all, and replaces
    one that was there; it is not synchronised with the disk.

    Args:
        path: Where to write; its folder exists.
        tensors: Dense, of a dtype in `DTYPES`, on any device, contiguous or not.
        metadata: Texts to keep beside them.

    Raises:
        InvalidTensorsError: If a tensor cannot be written as safetensors.
        DiskFullError: If there is no space.
    """
    ordered = _ordered(tensors)
    header = _header(ordered, metadata)
    digest = hashlib.sha256(header)
    size = len(header)
    partial = path.with_name(path.name + ".part")
    try:
        with storage_errors(path), partial.open("wb") as file:
            file.write(header)
            for _, tensor in ordered:
                data = _bytes_of(tensor)
                file.write(data)
                digest.update(data)
                size += len(data)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return SavedTensors(Digest(digest.hexdigest()), size)


def write_tensors(path: str, tensors: Mapping[str, Tensor], *, few_bytes: int) -> Content:
    """Return the bytes that `save_tensors` would write if they are not too many, or write them and return the path.

    Raises:
        InvalidTensorsError: If a tensor cannot be written as safetensors.
        DiskFullError: If there is no space.
    """
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= few_bytes:
        ordered = _ordered(tensors)
        content = b"".join([_header(ordered, None), *(_bytes_of(tensor) for _, tensor in ordered)])
        if len(content) <= few_bytes:
            return content
    save_tensors(file := Path(path), tensors)
    return file


def load_tensors(source: Content) -> dict[str, Tensor]:
    """Return all tensors of a file, on the CPU, each with memory of its own.

    Raises:
        InvalidTensorsError: If the file is not valid safetensors.
    """
    with open_tensors(source) as file:
        return {name: tensor.clone() for name, tensor in file.items()}


def open_tensors(source: Content) -> TensorFile:
    """Open a file to read its tensors one by one.

    Raises:
        InvalidTensorsError: If the file is not valid safetensors.
    """
    return TensorFile(source)


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a file, each mapped into memory when it is asked for.

    A tensor stays valid as long as anybody holds it, also after `close`; then its pages are given back. Writing to one
    changes neither the file nor what is read next. Thread-safe.
    """

    def __init__(self, source: Content) -> None:
        if isinstance(source, bytes):
            self._file: bytes | FileIO = source
            self.index: TensorIndex = read_header(source)
            return
        try:
            self._file = FileIO(source)
        except OSError as error:
            raise InvalidTensorsError(reason=f"it cannot be read: {error.strerror}") from error
        try:
            self.index = read_header_of(self._file)
        except BaseException:
            self._file.close()
            raise

    def __getitem__(self, name: str) -> Tensor:
        entry = self.index[name]
        if not entry.elements:
            return torch.empty(entry.shape, dtype=_TORCH[entry.dtype])
        view, skip = self._view(entry)
        if entry.dtype == "BOOL":  # a byte other than 0 and 1 is no bool, and torch does not check
            flags = torch.frombuffer(view, dtype=torch.uint8, count=entry.elements, offset=skip)
            return (flags != 0).reshape(entry.shape)
        dtype = _TORCH[entry.dtype]
        return torch.frombuffer(view, dtype=dtype, count=entry.elements, offset=skip).reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)

    def close(self) -> None:
        """Close the file; tensors that were read stay valid. Idempotent."""
        if not isinstance(self._file, bytes):
            self._file.close()

    def _view(self, entry: TensorEntry) -> tuple[bytearray | mmap.mmap, int]:
        """Return memory in which a tensor may be written to, and where it begins there; torch warns about read-only memory."""
        if isinstance(self._file, bytes):
            return bytearray(memoryview(self._file)[entry.start : entry.end]), 0
        skip = entry.start % mmap.ALLOCATIONGRANULARITY
        size, offset = entry.end - entry.start + skip, entry.start - skip
        return mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_COPY, offset=offset), skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ordered(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    return sorted(tensors.items(), key=lambda item: (-_item_bytes(*item), item[0]))


def _item_bytes(name: str, tensor: Tensor) -> int:
    if tensor.layout is not torch.strided or tensor.dtype not in DTYPES:
        raise InvalidTensorsError(
            reason=f"tensor {name!r} of {tensor.dtype}, {tensor.layout}, cannot be written"
        )
    return ITEM_BYTES[DTYPES[tensor.dtype]]


def _header(ordered: list[tuple[str, Tensor]], metadata: Mapping[str, str] | None) -> bytes:
    document: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name, tensor in ordered:
        end = start + tensor.numel() * tensor.element_size()
        document[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(PREFIX_BYTES, "little") + text


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data  # numpy knows no bfloat16
