"""Bring what a worker made to where the worker cannot change it, and to disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from common.errors import DiskFullError, TaskError
from common.ids import Digest
from common.limits import INLINE_BYTES
from common.sqlite import storage_errors
from node.worker.folder import RunFolder
from node.worker.protocol import RunTask


@dataclass(frozen=True, slots=True)
class Crop:
    """A file that was taken from a worker.

    Attributes:
        path: The agent's own copy.
        digest: Its SHA-256 if it is too large for the journal; it is on disk (fsync) then.
    """

    path: Path
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class Harvest:
    """What one task made, or why that could not be taken."""

    update: Crop | None = None
    residual: Crop | None = None
    error: TaskError | DiskFullError | None = None


def harvest(folder: RunFolder, task: RunTask, limit_bytes: int) -> Harvest:
    """Take the files of a task that is done; slow if they are large, and therefore not for the agent's own thread."""
    try:
        update = _crop(folder, task, task.update_path, limit_bytes) if task.train else None
        residual = _crop(folder, task, task.residual_to, limit_bytes) if task.residual_to else None
    except (TaskError, DiskFullError) as error:
        return Harvest(error=error)
    return Harvest(update, residual)


def _crop(folder: RunFolder, task: RunTask, path: str, limit_bytes: int) -> Crop:
    copy = folder.take(Path(path).name, task.node_id, limit_bytes)
    with storage_errors(copy), copy.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= INLINE_BYTES:
            return Crop(copy, None)
        digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        os.fsync(file.fileno())
    return Crop(copy, digest)
