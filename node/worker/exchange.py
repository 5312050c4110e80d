"""Read the global model and write the update, each in the encoding that a run names for it.

What is small and needs no decoding stays in memory. Everything else is done in files of the folder that the update goes to, block by block, so
that only the model itself is in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from common.payload.carried import PREFIX, is_carried, model_alone
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.decoder import decode_file
from common.payload.encodings.encoder import encode_update
from common.payload.header import Content
from common.payload.tensors import open_tensors, save_tensors, write_tensors
from node.worker.kept import Kept
from node.worker.protocol import HANDED_BYTES, Order


@dataclass(frozen=True, slots=True)
class SavedUpdate:
    """An update that was written.

    Attributes:
        content: The update.
        decoded_bytes: What it was before compression; none if it is not compressed.
        residual: What the encodings of updates left out until now.
    """

    content: Content
    decoded_bytes: int | None = None
    residual: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """What came from the researcher for a task.

    Attributes:
        model: The global model, not encoded.
        carried: What came beside it, by name.
    """

    model: Content
    carried: Mapping[str, Tensor]


def received(order: Order) -> Received:
    """Return the global model as it is without encoding, and what came beside it.

    Raises:
        InvalidSettingsError: If there is no such encoding.
        InvalidTensorsError: If it is not what the order says.
        MissingExtraError: If it is compressed and the package for that is not installed.
        DiskFullError: If there is no space.
    """
    model, encoding = order.model, Encoding.parse(order.run.model_encoding)
    if encoding.zstd:
        packed, model = model, _beside(order, "model.unpacked")
        decompress_file(packed, model, size_bytes=order.task.model_decoded_bytes or 0)
    if encoding.name != "raw":
        encoded, model = model, _beside(order, "model.decoded")
        decode_file(encoded, model)
    with open_tensors(model) as file:
        carried = {name.removeprefix(PREFIX): file[name] for name in file if is_carried(name)}
    return Received(model_alone(model, _beside(order, "model.alone")) if carried else model, carried)


def save_update(order: Order, trained: Mapping[str, Tensor], base: Content, kept: Kept) -> SavedUpdate:
    """Write the trained parameters as the update, and return what the encoding leaves out beside it.

    Args:
        order: Says where and how.
        trained: The parameters.
        base: The global model that training started from, as `received` returned it.
        kept: Holds what the update before left out.

    Raises:
        InvalidSettingsError: If there is no such encoding.
        InvalidTensorsError: If a parameter cannot be written, or the old residual does not fit.
        MissingExtraError: If it is to be compressed and the package for that is not installed.
        DiskFullError: If there is no space.
    """
    encoding = Encoding.parse(order.run.encoding)
    if encoding == Encoding():
        content = write_tensors(order.run.update_path, trained, few_bytes=HANDED_BYTES)
        return SavedUpdate(content, residual=kept.section("residual"))
    target = Path(order.run.update_path)
    plain, encoded = _beside(order, "update.plain"), _beside(order, "update.encoded")
    size, path = save_tensors(plain, trained).size_bytes, plain
    residual = left = kept.section("residual")
    if encoding.name != "raw":
        before, after = _beside(order, "residual.before"), _beside(order, "residual.after")
        if left:
            save_tensors(before, left)
        written = encode_update(
            plain, encoded, encoding, base=base, residual=before if left else None, residual_to=after
        )
        if encoding.feeds_back:
            with open_tensors(after) as file:
                residual = dict(file)
        size, path = written.size_bytes, encoded
        plain.unlink()
    if not encoding.zstd:
        path.replace(target)
        return SavedUpdate(target, residual=residual)
    compress_file(path, target)
    path.unlink()
    return SavedUpdate(target, decoded_bytes=size, residual=residual)


def _beside(order: Order, name: str) -> Path:
    return Path(order.run.update_path).with_name(name)
