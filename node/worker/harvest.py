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
        content: Its bytes if they are few enough for the journal, or else the agent's own copy, which is on disk (fsync).
        digest: Its SHA-256.
    """

    content: bytes | Path
    digest: Digest


@dataclass(frozen=True, slots=True)
class Harvest:
    """What one task made, or why that could not be taken."""

    update: Crop | None = None
    state: Crop | None = None
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

    def take(path: str) -> Path:
        return folder.take(Path(path).name, task.node_id, bounds.size_bytes)

    try:
        update = take(task.update_path) if task.train else None
        if update is not None:
            _check(folder, task, update, done.update_decoded_bytes, bounds)
        state = take(task.state_to) if done.keeps_state else None
        return Harvest(_crop(update), _crop(state))
    except WarrenError as error:
        return Harvest(error=error)


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


def _crop(path: Path | None) -> Crop | None:
    if path is None:
        return None
    with storage_errors(path), path.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= INLINE_BYTES:
            content = file.read()
            return Crop(content, Digest(hashlib.sha256(content).hexdigest()))
        digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        os.fsync(file.fileno())
    return Crop(path, digest)
