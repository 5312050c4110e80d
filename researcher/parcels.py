"""Keep what goes over the wire in another form than it is kept in: encoded models, compressed updates."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from common.ids import Digest
from common.limits import INLINE_BYTES
from common.messages import PayloadManifest
from common.payload.carried import combine
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.encoder import encode_model
from common.payload.header import Content
from common.payload.store import PayloadStore


class Contents(Protocol):
    """Models as they are, updates as they came."""

    def content(self, digest: Digest) -> Content:
        """Return one of them; raises PayloadMissingError if it is not here."""
        ...


class Parcels:
    """The files that a round needs only while it is open.

    A model that is encoded for sending is on disk (fsync) before its manifest is returned, so a round can be resumed with
    the very bytes that nodes already have. Updates are decompressed once in the life of this object. Not thread-safe.
    """

    def __init__(self, store: Contents, folder: Path) -> None:
        """Make nothing yet.

        Args:
            store: Models as they are, updates as they came.
            folder: For these files alone; made when it is needed.
        """
        self._store = store
        self._folder = folder
        self._unpacked: set[Digest] = set()

    def clear(self) -> None:
        """Remove all of them; the round is over."""
        self._unpacked.clear()
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def pack(
        self, model: Digest, encoding: Encoding, *, beside: bool = False, carried: Path | None = None
    ) -> PayloadManifest:
        """Write a global model as it is to be sent, and describe it.

        The files of the round before are removed, unless this one goes out `beside` older ones. Tensors of a file that is
        `carried` go along, as they are.

        Raises:
            PayloadMissingError: If the model is not here.
            MissingExtraError: If it is to be compressed and the package for that is not installed.
            DiskFullError: If it does not fit.
        """
        if not beside:
            self.clear()
        content, form = self._store.content(model), encoding.of_models
        if form == Encoding() and carried is None:
            return _manifest(model, content, form)
        store = PayloadStore(self._folder)
        decoded_bytes, files = None, []
        if form.name != "raw":
            files.append(self._folder / "model.encoded")
            encode_model(content, files[-1], encoding)
            content = files[-1]
        if carried is not None:
            files.append(self._folder / "model.combined")
            combine(content, carried, files[-1])
            content = files[-1]
        if form.zstd:
            files.append(self._folder / "model.packed")
            decoded_bytes = _size(content)
            compress_file(content, files[-1])
        digest = store.add(files.pop())
        for draft in files:
            draft.unlink()
        return _manifest(digest, store.path(digest), form, decoded_bytes)

    def packed(self, manifest: PayloadManifest) -> Content:
        """Return a model as it is sent.

        Raises:
            PayloadMissingError: If it is not here.
        """
        own = self._folder / manifest.sha256
        return own if own.exists() else self._store.content(manifest.sha256)

    def unpacked(self, manifest: PayloadManifest) -> Content:
        """Return an update as it was before compression; its size was found acceptable before.

        Raises:
            PayloadMissingError: If the update is not here.
            InvalidTensorsError: If it does not become what its manifest says.
            DiskFullError: If it does not fit.
        """
        content, digest = self._store.content(manifest.sha256), manifest.sha256
        if manifest.decoded_bytes is None:
            return content
        target = self._folder / f"{digest}.unpacked"
        if digest not in self._unpacked:  # what an earlier process left was never synchronised
            self._folder.mkdir(exist_ok=True, mode=0o700)
            decompress_file(content, target, size_bytes=manifest.decoded_bytes)
            self._unpacked.add(digest)
        return target


def _manifest(
    digest: Digest, content: Content, encoding: Encoding, decoded_bytes: int | None = None
) -> PayloadManifest:
    size = _size(content)
    return PayloadManifest(
        sha256=digest,
        size_bytes=size,
        encoding=str(encoding),
        decoded_bytes=decoded_bytes,
        inline=size <= INLINE_BYTES,
    )


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
