"""Carry tensors: described by a manifest, inline behind the JSON or as chunks on the bulk lane."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from common.errors import InvalidSettingsError
from common.ids import Digest
from common.limits import CHUNK_BYTES, PAYLOAD_BYTES
from common.messages.base import Count, Message, Part
from common.payload.encodings.choice import ENCODING, Encoding


def _known(text: str) -> str:
    try:
        Encoding.parse(text)
    except InvalidSettingsError as error:
        raise ValueError("there is no such encoding") from error
    return text


EncodingText = Annotated[str, StringConstraints(pattern=ENCODING), AfterValidator(_known)]
PayloadSize = Annotated[int, Field(ge=8, le=PAYLOAD_BYTES)]


class PayloadManifest(Part):
    """Describe a payload: safetensors bytes, compressed or not, named by the SHA-256 of what is sent."""

    sha256: Digest
    size_bytes: PayloadSize
    chunk_bytes: Annotated[int, Field(ge=1024, le=CHUNK_BYTES)] = CHUNK_BYTES
    encoding: EncodingText = "raw"
    decoded_bytes: PayloadSize | None = None
    """Size once decompressed; only with `+zstd`."""
    inline: bool
    """Whether the bytes follow the JSON of the message that carries this manifest."""

    @model_validator(mode="after")
    def _announces_what_it_becomes(self) -> Self:
        if self.encoding.endswith("+zstd") != (self.decoded_bytes is not None):
            raise ValueError("decoded_bytes belongs to +zstd, and to nothing else")
        return self

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
