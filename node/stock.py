"""Keep the payloads that a node must not lose: small ones in the journal, others as files."""

from __future__ import annotations

from pathlib import Path

from common.ids import Digest, TaskId
from common.messages import PayloadManifest
from common.payload.store import PayloadStore
from node.journal import Journal
from node.task_events import Task
from node.worker.harvest import Crop


class Stock:
    """Models, updates and states. What is written to the journal counts when its transaction ends."""

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

    def state(self, task: Task, base: TaskId | None) -> bytes | Path | None:
        """Return what was kept of the task that this one builds on, or None if there is none.

        Raises:
            PayloadMissingError: If it is not here.
        """
        digest = None if base is None else self._journal.state(task, base)
        return None if digest is None else self.content(digest)

    def keep_state(self, task: Task, state: Crop, now: float) -> None:
        """Keep what a task leaves for those that build on it, moving it if it is a file.

        To be journalled together with the answer that holds the update. It takes the place of nothing: a task that is done again
        after a crash starts from the same state as the first time, and so gives the same bytes.

        Raises:
            DiskFullError: If it does not fit.
        """
        self._keep(state)
        self._journal.keep_state(task, state.digest, now)

    def drop_states(self, task: Task, base: TaskId | None) -> list[Digest]:
        """Forget what was kept of its experiment, as a new task came, but for what that builds on: nobody can ask for the rest.

        Returns:
            The payloads that nothing needs any more, to be removed once that is on disk.
        """
        return self._journal.drop_states(task, base)

    def _keep(self, crop: Crop) -> int:
        """Keep what was taken from a worker, and return its size in bytes."""
        if isinstance(crop.content, bytes):
            self._journal.keep(crop.digest, crop.content)
            return len(crop.content)
        size = crop.content.stat().st_size
        self._payloads.add(crop.content, crop.digest)
        return size
