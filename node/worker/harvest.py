"""Bring what a worker made to where the worker cannot change it, and to disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from common.errors import InvalidTensorsError, UpdateUnsoundError, WarrenError
from common.ids import Digest
from common.limits import INLINE_BYTES
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import decompress_file
from common.payload.encodings.decoder import decode_file
from common.payload.soundness import unsound
from common.sqlite import storage_errors
from node.worker.folder import RunFolder
from node.worker.protocol import Done, RunTask


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
    error: WarrenError | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an update may be.

    Attributes:
        size_bytes: Largest file, also once decompressed.
        norm: Largest Euclidean norm of what it changes.
    """

    size_bytes: int
    norm: float


def harvest(folder: RunFolder, task: RunTask, done: Done, bounds: Bounds) -> Harvest:
    """Take the files of a task that is done, and look at the tensors; slow if they are large, so not for the agent's own thread."""
    limit_bytes = bounds.size_bytes
    try:
        update = _crop(folder, task, task.update_path, limit_bytes) if task.train else None
        if update is not None:
            _check(folder, task, update.path, done.update_decoded_bytes, bounds)
        residual = _crop(folder, task, task.residual_to, limit_bytes) if task.residual_to else None
    except WarrenError as error:
        return Harvest(error=error)
    return Harvest(update, residual)


def _check(folder: RunFolder, task: RunTask, update: Path, decoded_bytes: int | None, bounds: Bounds) -> None:
    """Refuse an update that is not one of the model; what is unpacked for that lies where no worker can write."""
    encoding, scratch = Encoding.parse(task.encoding), []

    def unpacked(path: Path, size_bytes: int | None) -> Path:
        scratch.append(folder.path / f"{path.name}.unpacked")
        decompress_file(path, scratch[-1], size_bytes=min(size_bytes or 0, bounds.size_bytes))
        return scratch[-1]

    try:
        model, sent = Path(task.model_path), Encoding.parse(task.model_encoding)
        if sent.zstd:
            model = unpacked(model, task.model_decoded_bytes)
        if sent.name != "raw":
            scratch.append(folder.path / "model.decoded")
            decode_file(model, scratch[-1])
            model = scratch[-1]
        if encoding.zstd:
            update = unpacked(update, decoded_bytes)
        problem = unsound(update, model, encoding, norm_limit=bounds.norm)
    except InvalidTensorsError as error:
        raise UpdateUnsoundError(reason=error.public_text) from error
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)
    if problem is not None:
        raise UpdateUnsoundError(reason=problem)


def _crop(folder: RunFolder, task: RunTask, path: str, limit_bytes: int) -> Crop:
    copy = folder.take(Path(path).name, task.node_id, limit_bytes)
    with storage_errors(copy), copy.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= INLINE_BYTES:
            return Crop(copy, None)
        digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        os.fsync(file.fileno())
    return Crop(copy, digest)
