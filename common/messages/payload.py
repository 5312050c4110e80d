"""Carry tensors: described by a manifest, inline behind the JSON or as chunks on the bulk lane."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.ids import Digest
from common.limits import CHUNK_BYTES, PAYLOAD_BYTES
from common.messages.base import Count, Message, Part

Encoding = Literal["raw"]


class PayloadManifest(Part):
    """Describe a payload: safetensors bytes, named by their SHA-256."""

    sha256: Digest
    size_bytes: Annotated[int, Field(ge=8, le=PAYLOAD_BYTES)]
    chunk_bytes: Annotated[int, Field(ge=1024, le=CHUNK_BYTES)] = CHUNK_BYTES
    encoding: Encoding = "raw"
    inline: bool
    """Whether the bytes follow the JSON of the message that carries this manifest."""

    @property
    def chunks(self) -> int:
        """Return the number of chunks that the payload is cut into."""
        return -(-self.size_bytes // self.chunk_bytes)


class Chunk(Message):
    """One piece of a payload; its bytes follow the JSON."""

    kind: Literal["chunk"] = "chunk"
    manifest: PayloadManifest
    index: Count


class ChunkRequest(Message):
    """Ask the sender of a payload for missing pieces."""

    kind: Literal["chunk_request"] = "chunk_request"
    sha256: Digest
    indices: Annotated[tuple[Count, ...], Field(min_length=1, max_length=100_000)]


class PayloadReceipt(Message):
    """Tell the sender of a payload that it arrived whole, so that it may be forgotten."""

    kind: Literal["payload_receipt"] = "payload_receipt"
    sha256: Digest
