"""Compress whole files with zstd, and never let a compressed file become larger than was announced.

Measured on trained float32 weights and their changes, level 1 saves 8 % of raw and 9 % of fp16, 20 % of bf16, 40 % of int8 and
12 % of topk. Higher levels cost more and save no more: there are skewed bytes to gain from, but no repetitions.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from io import BufferedRandom, BytesIO
from pathlib import Path
from typing import IO, Any, Final

from common.errors import InvalidTensorsError, MissingExtraError
from common.ids import Digest
from common.payload.encodings.writer import WrittenFile
from common.payload.header import Content
from common.sqlite import storage_errors

_LEVEL: Final = 1
_PIECE_BYTES: Final = 1024 * 1024
_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""Most memory that the sender may make the receiver look back on; level 1 needs a sixteenth of it."""


def compress_file(source: Content, target: Path) -> WrittenFile:
    """Compress a file; the same file gives the same bytes with the same release of zstd.

    Args:
        source: Any file, or its bytes; stays.
        target: Where to write; the file appears whole or not at all.

    Raises:
        MissingExtraError: If the package zstandard is not installed.
        DiskFullError: If there is no space; nothing is left behind.
    """
    zstd = _zstandard()
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    with storage_errors(target), _opened(source) as plain, _draft(target) as file:
        zstd.ZstdCompressor(level=_LEVEL).copy_stream(plain, file, size=size)
        return _written(file)


def decompress_file(source: Content, target: Path, *, size_bytes: int) -> WrittenFile:
    """Undo `compress_file`, given the size that was announced; memory and disk stay within it whatever the source holds.

    Args:
        source: A compressed file, or its bytes; stays.
        target: Where to write; the file appears whole or not at all.
        size_bytes: What the result must have; the caller has checked that it accepts so much.

    Raises:
        InvalidTensorsError: If the source is not valid zstd, or holds more or less than that; nothing is left behind.
        MissingExtraError: If the package zstandard is not installed.
        DiskFullError: If there is no space; nothing is left behind.
    """
    zstd = _zstandard()
    with storage_errors(target), _opened(source) as packed, _draft(target) as file:
        reader = zstd.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(packed)
        try:
            while piece := reader.read(min(_PIECE_BYTES, size_bytes + 1 - file.tell())):
                file.write(piece)
        except zstd.ZstdError as error:
            raise InvalidTensorsError(reason="it is not valid zstd") from error
        if file.tell() != size_bytes:
            relation = "more" if file.tell() > size_bytes else "less"
            raise InvalidTensorsError(reason=f"it holds {relation} than the announced {size_bytes} bytes")
        return _written(file)


def _opened(source: Content) -> IO[bytes]:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _zstandard() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        raise MissingExtraError(feature="zstd compression", package="zstandard", extra="zstd") from error


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[BufferedRandom]:
    """Open a file that gets its name when the block ends well, and vanishes when it does not."""
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("w+b") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _written(file: BufferedRandom) -> WrittenFile:
    size = file.tell()
    file.seek(0)
    return WrittenFile(Digest(hashlib.file_digest(file, "sha256").hexdigest()), size)
