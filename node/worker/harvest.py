"""Bring what a worker made to where the worker cannot change it, and to disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from common.errors import InvalidTensorsError, UpdateUnsoundError, WarrenError, WorkerFaultError
from common.ids import Digest
from common.limits import INLINE_BYTES
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import decompress_file
from common.payload.encodings.decoder import decode_file
from common.payload.header import Content
from common.payload.soundness import unsound
from common.sqlite import storage_errors
from node.worker.folder import RunFolder, bound
from node.worker.protocol import Made, Order


@dataclass(frozen=True, slots=True)
class Crop:
    """What was taken from a worker.

    Attributes:
        content: Its bytes if they are few enough for the journal, or else the agent's own copy, which is on disk (fsync).
        digest: Its SHA-256.
    """

    content: Content
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


def harvest(folder: RunFolder, order: Order, made: Made, bounds: Bounds) -> Harvest:
    """Take what came of a task that is done, and look at the tensors; slow if they are large, so not for the agent's own thread."""

    def take(content: Content | None, path: str) -> Content:
        if not isinstance(content, bytes):
            return folder.take(Path(path).name, order.run.node_id, bounds.size_bytes)
        bound(len(content), order.run.node_id, bounds.size_bytes)
        return content

    try:
        if made.update is not None and not order.task.train:
            raise WorkerFaultError(error_type="an update that nobody asked for")
        update = take(made.update, order.run.update_path) if order.task.train else None
        if update is not None:
            _check(folder, order, update, made.done.update_decoded_bytes, bounds)
        state = None if made.state is None else take(made.state, order.run.state_path)
        return Harvest(_crop(update), _crop(state))
    except WarrenError as error:
        return Harvest(error=error)


def _check(
    folder: RunFolder, order: Order, update: Content, decoded_bytes: int | None, bounds: Bounds
) -> None:
    """Refuse an update that is not one of the model; what is unpacked for that lies where no worker can write."""
    encoding, scratch = Encoding.parse(order.run.encoding), []

    def unpacked(name: str, content: Content, size_bytes: int | None) -> Path:
        scratch.append(folder.path / f"{name}.unpacked")
        decompress_file(content, scratch[-1], size_bytes=min(size_bytes or 0, bounds.size_bytes))
        return scratch[-1]

    try:
        model, sent = order.model, Encoding.parse(order.run.model_encoding)
        if sent.zstd:
            model = unpacked("model", model, order.task.model_decoded_bytes)
        if sent.name != "raw":
            scratch.append(folder.path / "model.decoded")
            decode_file(model, scratch[-1])
            model = scratch[-1]
        if encoding.zstd:
            update = unpacked("update", update, decoded_bytes)
        problem = unsound(update, model, encoding, norm_limit=bounds.norm)
    except InvalidTensorsError as error:
        raise UpdateUnsoundError(reason=error.public_text) from error
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)
    if problem is not None:
        raise UpdateUnsoundError(reason=problem)


def _crop(content: Content | None) -> Crop | None:
    if content is None:
        return None
    if isinstance(content, bytes):
        return Crop(content, Digest(hashlib.sha256(content).hexdigest()))
    with storage_errors(content), content.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= INLINE_BYTES:
            return _crop(file.read())
        digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        os.fsync(file.fileno())
    return Crop(content, digest)
