"""Keep payloads as files named by their SHA-256, also those that are still arriving."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.errors import DigestMismatchError, MalformedMessageError, PayloadMissingError
from common.ids import Digest
from common.messages.payload import Chunk, PayloadManifest
from common.payload.arriving import MAP, PART, Arriving
from common.payload.sent import SENT
from common.sqlite import storage_errors

_DRAFT: Final = ".new"
_OPEN: Final = 64
"""Arriving payloads whose files are kept open; more of them are opened for each chunk."""


class PayloadStore:
    """A folder of payloads.

    A whole payload is a file `<sha256>`; what else belongs to it has the same name and a suffix: `.part` and `.map` while it
    arrives, `.sent` while it is sent. Whole payloads are on disk (fsync) when a method returns. Chunks are not synchronised one by one: they
    survive the death of the process, and what a power cut tears is caught by the digest at the end and asked for again.

    Safe to use from several threads; not from several processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._arriving: dict[Digest, Arriving] = {}  # the one with the latest chunk is the last
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes | memoryview) -> Digest:
        """Store bytes and return their digest.

        Raises:
            DiskFullError: If they do not fit; nothing is left behind.
        """
        digest = Digest(hashlib.sha256(data).hexdigest())
        with self._lock:
            if not self.has(digest):
                draft = self._folder / f"{digest}{_DRAFT}"
                with storage_errors(draft), draft.open("wb") as file:
                    file.write(data)
                    os.fsync(file.fileno())
                self._publish(draft, digest)
        return digest

    def add(self, path: Path, digest: Digest | None = None) -> Digest:
        """Move a file of the same file system into the store and return its digest.

        Args:
            path: The file.
            digest: Its SHA-256, if that is known and the file is on disk (fsync): it is not read then.

        Raises:
            DiskFullError: If it cannot be synchronised; the file stays where it is.
        """
        if digest is None:
            with storage_errors(path), path.open("rb") as file:
                digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
                os.fsync(file.fileno())
        with self._lock:
            self._publish(path, digest)
        return digest

    def adopt(self, other: PayloadStore, digest: Digest) -> None:
        """Move a whole payload from another store, perhaps on another file system, without reading it again.

        Raises:
            PayloadMissingError: If it is not there.
            DiskFullError: If it must be copied and does not fit; it stays where it is.
        """
        source = other.path(digest)
        with self._lock:
            try:
                self._publish(source, digest)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                draft = self._folder / f"{digest}{_DRAFT}"
                with storage_errors(draft), draft.open("wb") as target, source.open("rb") as file:
                    shutil.copyfileobj(file, target)
                    target.flush()
                    os.fsync(target.fileno())
                self._publish(draft, digest)
        other.remove(digest)

    def has(self, digest: Digest) -> bool:
        """Tell whether the payload is here and whole."""
        return os.path.exists(f"{self._folder}/{digest}")  # noqa: PTH110  for each task: a path takes ten times as long

    def path(self, digest: Digest) -> Path:
        """Return the file of a whole payload.

        Raises:
            PayloadMissingError: If it is not here.
        """
        if not self.has(digest):
            raise PayloadMissingError(digest=digest, path=self._folder)
        return self._folder / digest

    def remove(self, digest: Digest) -> None:
        """Forget a payload, whole or arriving, and all that belongs to it, if it is here."""
        with self._lock:
            self._close(digest)
            for suffix in ("", PART, MAP, SENT, _DRAFT):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._folder}/{digest}{suffix}")  # noqa: PTH108  as above

    def accept(self, chunk: Chunk, data: bytes | memoryview) -> bool:
        """Write one chunk at its place; duplicates and any order are fine.

        Returns:
            Whether the payload is now whole, with the digest that was announced.

        Raises:
            MalformedMessageError: If index or length do not fit the manifest, or the manifest differs from the one before.
            DigestMismatchError: If all chunks are here but the digest is another; all of them are forgotten.
            DiskFullError: If the chunk does not fit; it is not counted as received.
        """
        manifest, index = chunk.manifest, chunk.index
        expected = chunk_length(manifest, index)
        if len(data) != expected or index >= manifest.chunks:
            reason = f"chunk {index} of {manifest.chunks} has {len(data)} bytes instead of {expected}"
            raise MalformedMessageError(sender=chunk.sender, reason=reason)
        with self._lock:
            arriving = self._arriving.get(manifest.sha256)
            if arriving is None and self.has(manifest.sha256):
                return True
            arriving = self._open(manifest)
            if not arriving.has(index):
                arriving.write(index, data)
            return arriving.whole and self._finish(arriving)

    def missing(self, manifest: PayloadManifest) -> tuple[int, ...]:
        """Return the indices of the chunks that have not arrived."""
        with self._lock:
            if self.has(manifest.sha256):
                return ()
            if (self._folder / f"{manifest.sha256}{MAP}").exists():
                with contextlib.suppress(MalformedMessageError):
                    return self._open(manifest).missing()
            return tuple(range(manifest.chunks))

    def sweep(self, *, older_than_s: float, whole: bool = False) -> list[Digest]:
        """Forget what has not changed for so long, and return its digests.

        Args:
            older_than_s: Age of the newest chunk, or of the file.
            whole: Whether whole payloads are forgotten too, not only those that are arriving.
        """
        limit = time.time() - older_than_s
        newest: dict[Digest, float] = {}
        with self._lock:
            for path in self._folder.iterdir():
                digest = Digest(path.name.partition(".")[0])
                if path.suffix or whole:
                    newest[digest] = max(newest.get(digest, 0.0), path.stat().st_mtime)
            stale = [
                digest for digest, at in newest.items() if at < limit and (whole or not self.has(digest))
            ]
            for digest in stale:
                self.remove(digest)
        return stale

    def digests(self) -> Iterator[Digest]:
        """Yield the digest of every whole payload."""
        for path in self._folder.iterdir():
            if not path.suffix:
                yield Digest(path.name)

    def close(self) -> None:
        """Close the files of what is arriving; the next store goes on with them. Idempotent."""
        with self._lock:
            for digest in list(self._arriving):
                self._close(digest)

    def _open(self, manifest: PayloadManifest) -> Arriving:
        """Return the files of an arriving payload, which are closed when too many others are used."""
        arriving = self._arriving.pop(manifest.sha256, None)
        if arriving is None:
            arriving = Arriving(self._folder, manifest)
            if len(self._arriving) >= _OPEN:
                self._close(next(iter(self._arriving)))
        elif not arriving.fits(manifest):
            self._arriving[manifest.sha256] = arriving
            raise arriving.contradiction()
        self._arriving[manifest.sha256] = arriving
        return arriving

    def _close(self, digest: Digest) -> None:
        if (arriving := self._arriving.pop(digest, None)) is not None:
            arriving.close()

    def _finish(self, arriving: Arriving) -> bool:
        digest = arriving.manifest.sha256
        actual = arriving.finish()
        if actual != digest:
            self.remove(digest)
            raise DigestMismatchError(expected=digest, actual=actual)
        self._close(digest)
        self._publish(arriving.part, digest)
        (self._folder / f"{digest}{MAP}").unlink(missing_ok=True)
        return True

    def _publish(self, draft: Path, digest: Digest) -> None:
        draft.replace(self._folder / digest)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def chunk_length(manifest: PayloadManifest, index: int) -> int:
    """Return the number of bytes in chunk `index`; 0 beyond the last one."""
    start = index * manifest.chunk_bytes
    return max(0, min(manifest.chunk_bytes, manifest.size_bytes - start))
