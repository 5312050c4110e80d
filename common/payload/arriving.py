"""Hold one payload that is still arriving: its chunks so far, and which they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Self

from common.errors import MalformedMessageError
from common.messages.payload import PayloadManifest
from common.sqlite import storage_errors

PART: Final = ".part"
MAP: Final = ".map"

_HERE: Final = b"\x01"
_READ_BYTES: Final = 1024 * 1024


class Arriving:
    """A file `<sha256>.part` beside `<sha256>.map`, which has one byte for each chunk. Not thread-safe.

    A chunk is in the map once it is in the file. Chunks that come in order are hashed on the way, so that the file is
    not read again at the end.
    """

    def __init__(self, folder: Path, manifest: PayloadManifest) -> None:
        """Make the files, or go on with those that are there.

        Raises:
            MalformedMessageError: If they belong to another manifest of the same digest.
            DiskFullError: If there is no space.
        """
        self.manifest = manifest
        self.part = folder / f"{manifest.sha256}{PART}"
        self._hash = hashlib.sha256()
        self._hashed = 0
        with storage_errors(self.part):
            self._data = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._map = os.open(
                    folder / f"{manifest.sha256}{MAP}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                try:
                    self._received = self._restored()
                except BaseException:
                    os.close(self._map)
                    raise
            except BaseException:
                os.close(self._data)
                raise
        self._left = self._received.count(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def whole(self) -> bool:
        """Tell whether every chunk is here."""
        return self._left == 0

    def fits(self, manifest: PayloadManifest) -> bool:
        """Tell whether a manifest of the same digest cuts the payload into the same chunks."""
        ours = self.manifest
        return (ours.size_bytes, ours.chunk_bytes) == (manifest.size_bytes, manifest.chunk_bytes)

    def has(self, index: int) -> bool:
        """Tell whether a chunk is here."""
        return bool(self._received[index])

    def missing(self) -> tuple[int, ...]:
        """Return the indices of the chunks that are not here."""
        return tuple(index for index, here in enumerate(self._received) if not here)

    def write(self, index: int, data: bytes | memoryview) -> None:
        """Put a chunk, which is as long as the manifest says, at its place.

        Raises:
            DiskFullError: If it does not fit; it does not count as here.
        """
        with storage_errors(self.part):
            _write(self._data, data, index * self.manifest.chunk_bytes)
            _write(self._map, _HERE, index)
        if not self._received[index]:
            self._received[index] = 1
            self._left -= 1
        if index == self._hashed:
            self._hash.update(data)
            self._hashed += 1

    def finish(self) -> str:
        """Bring the file to disk and return its SHA-256."""
        with storage_errors(self.part):
            at = self._hashed * self.manifest.chunk_bytes
            while data := os.pread(self._data, _READ_BYTES, at):
                self._hash.update(data)
                at += len(data)
            os.fsync(self._data)
        return self._hash.hexdigest()

    def contradiction(self) -> MalformedMessageError:
        """Return what is wrong with a chunk of the same digest that describes it otherwise."""
        reason = "its manifest differs from that of earlier chunks"
        return MalformedMessageError(sender="the sender of a payload", reason=reason)

    def close(self) -> None:
        """Close the files; they stay for the next one."""
        os.close(self._data)
        os.close(self._map)

    def _restored(self) -> bytearray:
        """Return the map, after making both files as long as they must be if they are new."""
        manifest = self.manifest
        size, chunks = os.fstat(self._data).st_size, os.fstat(self._map).st_size
        if chunks == 0:
            os.ftruncate(self._data, manifest.size_bytes)
            os.ftruncate(self._map, manifest.chunks)
        elif (size, chunks) != (manifest.size_bytes, manifest.chunks):
            raise self.contradiction()
        return bytearray(os.pread(self._map, manifest.chunks, 0))


def _write(descriptor: int, data: bytes | memoryview, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
