"""Keep the models and updates of an experiment: small ones in its ledger, others as files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from common.ids import Digest
from common.payload.header import Content
from common.payload.store import PayloadStore
from common.sqlite import storage_errors
from researcher.ledger import Ledger

FOLDER: Final = "payloads"
"""Folder of an experiment with the payloads that are files, named by their SHA-256."""
SMALL_BYTES: Final = 16 * 1024
"""Largest payload that is kept in the ledger; those of all nodes of a round may be in memory at once."""


class Holdings:
    """The payloads of one experiment, named by their SHA-256. Used by one thread at a time.

    A small payload can be read at once, and is on disk when the next `together` block ends: the ledger gets it in the transaction
    that tells what it is. A file is on disk (fsync) when the method that keeps it returns.
    """

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        """Keep payloads in a ledger and beside it in its folder."""
        self.files = PayloadStore(folder / FOLDER)
        self._ledger = ledger
        self._unsettled: dict[Digest, bytes] = {}
        self._latest: dict[Digest, bytes] = {}
        """What was settled last: the model that is used next is among it."""

    def content(self, digest: Digest) -> Content:
        """Return a payload.

        Raises:
            PayloadMissingError: If it is not here.
        """
        for known in (self._unsettled, self._latest):
            if digest in known:
                return known[digest]
        data = self._ledger.payload(digest)
        return self.files.path(digest) if data is None else data

    @contextlib.contextmanager
    def file(self, digest: Digest) -> Iterator[Path]:
        """Lend a payload as a file; a small one is written for as long as it is lent.

        Raises:
            PayloadMissingError: If it is not here.
        """
        content = self.content(digest)
        if isinstance(content, Path):
            yield content
            return
        with NamedTemporaryFile(prefix="warren-payload-") as file:
            file.write(content)
            file.flush()
            yield Path(file.name)

    def put(self, data: bytes | memoryview) -> Digest:
        """Keep bytes and return their digest.

        Raises:
            DiskFullError: If they do not fit; nothing is left behind.
        """
        if len(data) > SMALL_BYTES:
            return self.files.put(data)
        digest = Digest(hashlib.sha256(data).hexdigest())
        self._unsettled[digest] = bytes(data)
        return digest

    def add(self, path: Path) -> Digest:
        """Move a file of the same file system here and return its digest.

        Raises:
            DiskFullError: If it cannot be synchronised; the file stays where it is.
        """
        with storage_errors(path), path.open("rb") as file:
            data = file.read(SMALL_BYTES + 1)
        if len(data) > SMALL_BYTES:
            return self.files.add(path)
        digest = self.put(data)
        path.unlink()
        return digest

    def show(self, digest: Digest) -> None:
        """Keep a payload as a file, where a person can look at it.

        Raises:
            DiskFullError: If it does not fit.
        """
        data = self._unsettled.pop(digest, None)
        if data is not None:
            self.files.put(data)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Commit everything that the block writes to the ledger, and the small payloads that are new, or none of it."""
        with self._ledger.together():
            yield
            for digest, data in self._unsettled.items():
                self._ledger.keep(digest, data)
        if self._unsettled:
            self._latest, self._unsettled = self._unsettled, {}

    def remove(self, digests: Iterable[Digest]) -> int:
        """Forget payloads, and return how many of them were here."""
        wanted = set(digests)
        self._latest.clear()
        files = wanted.intersection(self.files.digests())
        for digest in files:
            self.files.remove(digest)
        return len(files) + self._ledger.drop(wanted)
