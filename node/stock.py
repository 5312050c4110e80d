"""Keep the payloads that a node must not lose: small ones in the journal, others as files."""

from __future__ import annotations

from pathlib import Path

from common.ids import Digest, RunId
from common.messages import PayloadManifest
from common.payload.store import PayloadStore
from node.journal import Journal
from node.task_events import (
    Task,
)
from node.worker.harvest import Crop


class Stock:
    """Models, updates and residuals. What is written to the journal counts when its transaction ends."""

    def __init__(self, journal: Journal, payloads: PayloadStore) -> None:
        """Keep small payloads in the journal and others in the store."""
        self._journal = journal
        self._payloads = payloads

    def content(self, digest: Digest) -> bytes | Path:
        """Return a payload as bytes, or the file that it is.

        Raises:
            PayloadMissingError: If it is not here.
        """
        data = self._journal.payload(digest)
        return self._payloads.path(digest) if data is None else data

    def keep_update(self, update: Crop, encoding: str, decoded_bytes: int | None) -> PayloadManifest:
        """Keep an update, moving it if it is a file, and describe it.

        Args:
            update: What was taken from the worker.
            encoding: How the worker was told to encode it.
            decoded_bytes: What the worker says that it was before compression; the researcher finds out if it lies.

        Raises:
            DiskFullError: If it does not fit.
        """
        inline = isinstance(update.content, bytes)
        size = self._keep(update)
        decoded = (decoded_bytes or size) if encoding.endswith("+zstd") else None
        return PayloadManifest(
            sha256=update.digest, size_bytes=size, encoding=encoding, decoded_bytes=decoded, inline=inline
        )

    def residual(self, task: Task) -> bytes | Path | None:
        """Return what the last update of a task's run left out, or None if nothing did.

        Raises:
            PayloadMissingError: If it is not here.
        """
        digest = self._journal.residual(task.researcher, task.run_id)
        return None if digest is None else self.content(digest)

    def keep_residual(self, task: Task, residual: Crop, now: float) -> list[Digest]:
        """Keep what an update left out, moving it if it is a file.

        To be journalled together with the answer that holds the update: a task that is done again after a crash starts from the
        same residual as the first time, and so gives the same bytes.

        Returns:
            The payloads that nothing needs any more, to be removed once that is on disk.

        Raises:
            DiskFullError: If it does not fit.
        """
        self._keep(residual)
        return self._journal.keep_residual(task.researcher, task.run_id, residual.digest, now)

    def drop_residual(self, run_id: RunId) -> list[Digest]:
        """Forget what the last update of a run left out; return what nothing needs any more."""
        return self._journal.drop_residual(run_id)

    def _keep(self, crop: Crop) -> int:
        """Keep what was taken from a worker, and return its size in bytes."""
        if isinstance(crop.content, bytes):
            self._journal.keep(crop.digest, crop.content)
            return len(crop.content)
        size = crop.content.stat().st_size
        self._payloads.add(crop.content, crop.digest)
        return size
