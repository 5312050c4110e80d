"""Bring what a worker made to where the worker cannot change it, and to disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from common.errors import DiskFullError, TaskError
from common.ids import Digest
from common.sqlite import storage_errors
from node.worker.folder import RunFolder
from node.worker.protocol import RunTask


@dataclass(frozen=True, slots=True)
class Crop:
    """A file that was taken from a worker.

    Attributes:
        content: Its bytes if they are few enough for the journal, or else the agent's own copy, which is on disk (fsync).
        digest: Its SHA-256.
    """

    content: bytes | Path
    digest: Digest


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
    content = folder.take(Path(path).name, task.node_id, limit_bytes)
    if isinstance(content, bytes):
        return Crop(content, Digest(hashlib.sha256(content).hexdigest()))
    with storage_errors(content), content.open("rb") as file:
        digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        os.fsync(file.fileno())
    return Crop(content, digest)
