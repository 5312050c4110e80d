"""Remember which chunks of a payload the broker has, so that after a crash only the others are sent again."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from common.ids import PartyId
from common.messages.payload import PayloadManifest
from common.sqlite import storage_errors

SENT: Final = ".sent"

_HEAD: Final = 32
_DONE: Final = b"\x01"


class SentChunks:
    """A file `<sha256>.sent` beside the payload: whom it goes to (SHA-256 of the names), then one byte for each chunk.

    Written without fsync: after a power cut a chunk may be sent twice, which is harmless, or count as sent although the
    file system lost something else, which the recipient mends by asking. Thread-safe.
    """

    def __init__(self, payload: Path, manifest: PayloadManifest, recipients: Sequence[PartyId]) -> None:
        """Make the file, or go on with the one that is there if it is about the same recipients.

        Raises:
            DiskFullError: If there is no space.
        """
        self._path = payload.with_name(manifest.sha256 + SENT)
        self._lock = threading.Lock()
        head = hashlib.sha256(",".join(sorted(recipients)).encode()).digest()
        with storage_errors(self._path):
            self._file = self._path.open("r+b" if self._path.exists() else "w+b", buffering=0)
            known = self._file.read(_HEAD + manifest.chunks + 1)
            if len(known) != _HEAD + manifest.chunks or known[:_HEAD] != head:
                known = head + bytes(manifest.chunks)
                self._file.truncate(0)
                os.pwrite(self._file.fileno(), known, 0)
        self._done = bytearray(known[_HEAD:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._file.close()

    def left(self) -> Iterator[int]:
        """Yield the chunks that the broker is not known to have."""
        return (index for index, done in enumerate(self._done) if not done)

    def add(self, index: int) -> None:
        """Note that the broker has a chunk."""
        with self._lock, storage_errors(self._path):
            self._done[index] = 1
            if not self._file.closed:
                os.pwrite(self._file.fileno(), _DONE, _HEAD + index)
