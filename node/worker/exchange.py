"""Read the global model and write the update, each in the encoding that a task names for it.

Everything is done in files of the folder that the update goes to, block by block, so that only the model itself is in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from common.ids import Digest
from common.payload.carried import PREFIX, is_carried, model_alone
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.decoder import decode_file
from common.payload.encodings.encoder import encode_update
from common.payload.tensors import open_tensors, save_tensors
from node.worker.kept import Kept
from node.worker.protocol import RunTask


@dataclass(frozen=True, slots=True)
class SavedUpdate:
    """An update that was written.

    Attributes:
        sha256: Digest of the file.
        size_bytes: Its size.
        decoded_bytes: What it was before compression; none if it is not compressed.
        residual: What the encodings of updates left out until now.
    """

    sha256: Digest
    size_bytes: int
    decoded_bytes: int | None = None
    residual: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """What came from the researcher for a task.

    Attributes:
        model: File of the global model, not encoded.
        carried: What came beside it, by name.
    """

    model: Path
    carried: Mapping[str, Tensor]


def received(task: RunTask) -> Received:
    """Return the global model as it is without encoding, and what came beside it.

    Raises:
        InvalidSettingsError: If there is no such encoding.
        InvalidTensorsError: If the file does not hold what the task says.
        MissingExtraError: If it is compressed and the package for that is not installed.
        DiskFullError: If there is no space.
    """
    path, encoding = Path(task.model_path), Encoding.parse(task.model_encoding)
    folder = Path(task.update_path).parent
    if encoding.zstd:
        packed, path = path, folder / "model.unpacked"
        decompress_file(packed, path, size_bytes=task.model_decoded_bytes or 0)
    if encoding.name != "raw":
        encoded, path = path, folder / "model.decoded"
        decode_file(encoded, path)
    with open_tensors(path) as file:
        carried = {name.removeprefix(PREFIX): file[name] for name in file if is_carried(name)}
    return Received(model_alone(path, folder / "model.alone") if carried else path, carried)


def save_update(task: RunTask, trained: Mapping[str, Tensor], base: Path, kept: Kept) -> SavedUpdate:
    """Write the trained parameters as the update, and return what the encoding leaves out beside it.

    Args:
        task: Says where and how.
        trained: The parameters.
        base: The global model that training started from, as `received` returned it.
        kept: Holds what the update before left out.

    Raises:
        InvalidSettingsError: If there is no such encoding.
        InvalidTensorsError: If a parameter cannot be written, or the old residual does not fit.
        MissingExtraError: If it is to be compressed and the package for that is not installed.
        DiskFullError: If there is no space.
    """
    target, encoding = Path(task.update_path), Encoding.parse(task.encoding)
    if encoding == Encoding():
        saved = save_tensors(target, trained)
        return SavedUpdate(saved.sha256, saved.size_bytes, residual=kept.section("residual"))
    plain, encoded = target.with_name("update.plain"), target.with_name("update.encoded")
    saved = save_tensors(plain, trained)
    digest, size, path = saved.sha256, saved.size_bytes, plain
    residual = left = kept.section("residual")
    if encoding.name != "raw":
        before, after = target.with_name("residual.before"), target.with_name("residual.after")
        if left:
            save_tensors(before, left)
        written = encode_update(
            plain, encoded, encoding, base=base, residual=before if left else None, residual_to=after
        )
        if encoding.feeds_back:
            with open_tensors(after) as file:
                residual = dict(file)
        digest, size, path = written.sha256, written.size_bytes, encoded
        plain.unlink()
    if not encoding.zstd:
        path.replace(target)
        return SavedUpdate(digest, size, residual=residual)
    packed = compress_file(path, target)
    path.unlink()
    return SavedUpdate(packed.sha256, packed.size_bytes, decoded_bytes=size, residual=residual)
