"""Look at the payloads of an experiment, wherever they are kept."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from safetensors.numpy import load

from common.ids import Digest
from common.payload.header import Content
from common.payload.store import PayloadStore
from researcher.holdings import Holdings
from researcher.ledger import Ledger


class Files(PayloadStore):
    """Keeps everything as files."""

    def content(self, digest: Digest) -> Content:
        return self.path(digest)


def data_of(folder: Path, digest: Digest) -> bytes:
    """Return a payload of the experiment in a folder."""
    with closing(Ledger.open(folder)) as ledger:
        content = Holdings(ledger, folder).content(digest)
    return content if isinstance(content, bytes) else content.read_bytes()


def tensors_of(folder: Path, digest: Digest):
    return load(data_of(folder, digest))


def digests_of(folder: Path) -> list[Digest]:
    """Return what the experiment in a folder keeps."""
    with closing(Ledger.open(folder)) as ledger:
        small = [row["digest"] for row in ledger._read("SELECT digest FROM payloads")]
    return [*small, *PayloadStore(folder / "payloads").digests()]
