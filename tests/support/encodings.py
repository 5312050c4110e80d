"""Encode and decode tensors through files, as both sides of a federation do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from common.payload.encodings.choice import Encoding
from common.payload.encodings.decoder import decode_file
from common.payload.encodings.encoder import encode_update
from common.payload.tensors import load_tensors, save_tensors


class Link:
    """One node that sends updates to a researcher; keeps its residual between them."""

    def __init__(self, folder: Path, encoding: str, *, feedback: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.encoding = Encoding.parse(encoding)
        self.feedback = feedback
        self.residual: Path | None = None
        self.sent_bytes = 0

    @property
    def update(self) -> Path:
        """The last file that was sent."""
        return self.folder / "update"

    def send(self, trained: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the researcher reads when the node has trained this."""
        save_tensors(self.folder / "trained", trained)
        save_tensors(self.folder / "base", base)
        before, after = self.folder / "residual", self.folder / "next-residual"
        written = encode_update(
            self.folder / "trained",
            self.update,
            self.encoding,
            base=self.folder / "base",
            residual=self.residual,
            residual_to=after if self.feedback else None,
        )
        self.sent_bytes += written.size_bytes
        if after.exists():
            after.replace(before)
            self.residual = before
        decode_file(self.update, self.folder / "read", self.folder / "base")
        return load_tensors(self.folder / "read")

    def left(self) -> dict[str, Tensor]:
        """Return the residual."""
        return load_tensors(self.residual) if self.residual else {}
