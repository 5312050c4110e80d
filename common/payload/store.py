"""Keep payloads as files named by their SHA-256, also those that are still arriving."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from common.errors import DigestMismatchError, MalformedMessageError, PayloadMissingError
from common.ids import Digest
from common.messages.payload import Chunk, PayloadManifest
from common.sqlite import storage_errors


class PayloadStore:
    """A folder of payloads.

    A whole payload is a file `<sha256>`; one that is arriving is `<sha256>.part` beside `<sha256>.map`, which has one byte
    for each chunk. Whole payloads are on disk (fsync) when a method returns. Chunks are not synchronised one by one: they
    survive the death of the process, and what a power cut tears is caught by the digest at the end and asked for again.

    Safe to use from several threads; not from several processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._hashing: dict[Digest, tuple[int, hashlib._Hash]] = {}  # chunks hashed so far, in order
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes | memoryview) -> Digest:
        """Store bytes and return their digest.

        Raises:
            DiskFullError: If they do not fit; nothing is left behind.
        """
        digest = Digest(hashlib.sha256(data).hexdigest())
        with self._lock:
            if not self.has(digest):
                draft = self._folder / f"{digest}.new"
                with storage_errors(draft), draft.open("wb") as file:
                    file.write(data)
                    os.fsync(file.fileno())
                self._publish(draft, digest)
        return digest

    def add(self, path: Path) -> Digest:
        """Move a file of the same file system into the store and return its digest.

        Raises:
            DiskFullError: If it cannot be synchronised; the file stays where it is.
        """
        with storage_errors(path), path.open("rb") as file:
            digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
            os.fsync(file.fileno())
        with self._lock:
            self._publish(path, digest)
        return digest

    def has(self, digest: Digest) -> bool:
        """Tell whether the payload is here and whole."""
        return (self._folder / digest).exists()

    def path(self, digest: Digest) -> Path:
        """Return the file of a whole payload.

        Raises:
            PayloadMissingError: If it is not here.
        """
        path = self._folder / digest
        if not path.exists():
            raise PayloadMissingError(digest=digest, path=self._folder)
        return path

    def remove(self, digest: Digest) -> None:
        """Forget a payload, whole or arriving, if it is here."""
        with self._lock:
            self._hashing.pop(digest, None)
            for suffix in ("", ".part", ".map", ".new"):
                (self._folder / f"{digest}{suffix}").unlink(missing_ok=True)

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
            if self.has(manifest.sha256):
                return True
            part, received = self._open(manifest, chunk)
            with storage_errors(part), part.open("r+b") as file:
                os.pwrite(file.fileno(), data, index * manifest.chunk_bytes)
            received[index] = 1
            with storage_errors(part):
                self._map(manifest.sha256).write_bytes(received)
            hashed, sha = self._hashing.get(manifest.sha256, (0, hashlib.sha256()))
            if hashed == index:
                sha.update(data)
                self._hashing[manifest.sha256] = (hashed + 1, sha)
            return all(received) and self._finish(manifest)

    def missing(self, manifest: PayloadManifest) -> tuple[int, ...]:
        """Return the indices of the chunks that have not arrived."""
        with self._lock:
            if self.has(manifest.sha256):
                return ()
            with contextlib.suppress(FileNotFoundError):
                received = self._map(manifest.sha256).read_bytes()
                if len(received) == manifest.chunks:
                    return tuple(index for index, here in enumerate(received) if not here)
            return tuple(range(manifest.chunks))

    def sweep(self, *, older_than_s: float) -> int:
        """Forget arriving payloads that got no chunk for so long, and return how many."""
        limit = time.time() - older_than_s
        with self._lock:
            stale = [path.stem for path in self._folder.glob("*.map") if path.stat().st_mtime < limit]
            for digest in stale:
                self.remove(Digest(digest))
        return len(stale)

    def digests(self) -> Iterator[Digest]:
        """Yield the digest of every whole payload."""
        for path in self._folder.iterdir():
            if not path.suffix:
                yield Digest(path.name)

    def _map(self, digest: Digest) -> Path:
        return self._folder / f"{digest}.map"

    def _open(self, manifest: PayloadManifest, chunk: Chunk) -> tuple[Path, bytearray]:
        part = self._folder / f"{manifest.sha256}.part"
        try:
            received = bytearray(self._map(manifest.sha256).read_bytes())
            size = part.stat().st_size
        except FileNotFoundError:
            received, size = bytearray(manifest.chunks), manifest.size_bytes
            with storage_errors(part), part.open("wb") as file:
                file.truncate(size)
        if len(received) != manifest.chunks or size != manifest.size_bytes:
            raise MalformedMessageError(
                sender=chunk.sender, reason="its manifest differs from that of earlier chunks"
            )
        return part, received

    def _finish(self, manifest: PayloadManifest) -> bool:
        part = self._folder / f"{manifest.sha256}.part"
        hashed, sha = self._hashing.pop(manifest.sha256, (0, hashlib.sha256()))
        with part.open("rb") as file:
            if hashed != manifest.chunks:
                sha = hashlib.file_digest(file, "sha256")
            with storage_errors(part):
                os.fsync(file.fileno())
        if sha.hexdigest() != manifest.sha256:
            self.remove(manifest.sha256)
            raise DigestMismatchError(expected=manifest.sha256, actual=sha.hexdigest())
        self._publish(part, manifest.sha256)
        self._map(manifest.sha256).unlink(missing_ok=True)
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
