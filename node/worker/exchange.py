"""Read the global model and write the update, each in the encoding that a task names for it.

Everything is done in files of the folder that the update goes to, block by block, so that only the model itself is in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.ids import Digest
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.decoder import decode_file
from common.payload.encodings.encoder import encode_update
from common.payload.tensors import save_tensors
from node.worker.protocol import RunTask


@dataclass(frozen=True, slots=True)
class SavedUpdate:
    """An update that was written.

    Attributes:
        sha256: Digest of the file.
        size_bytes: Its size.
        decoded_bytes: What it was before compression; none if it is not compressed.
    """

    sha256: Digest
    size_bytes: int
    decoded_bytes: int | None = None


def received_model(task: RunTask) -> Path:
    """Return a file with the global model as it is without encoding.

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
    return path


def save_update(task: RunTask, trained: Mapping[str, Tensor], base: Path) -> SavedUpdate:
    """Write the trained parameters as the update, and what the encoding leaves out as the new residual.

    Args:
        task: Says where and how.
        trained: The parameters.
        base: The global model that training started from, as `received_model` returned it.

    Raises:
        InvalidSettingsError: If there is no such encoding.
        InvalidTensorsError: If a parameter cannot be written, or the old residual does not fit.
        MissingExtraError: If it is to be compressed and the package for that is not installed.
        DiskFullError: If there is no space.
    """
    target, encoding = Path(task.update_path), Encoding.parse(task.encoding)
    plain, encoded = target.with_name("update.plain"), target.with_name("update.encoded")
    saved = save_tensors(plain, trained)
    digest, size, path = saved.sha256, saved.size_bytes, plain
    if encoding.name != "raw":
        written = encode_update(
            plain,
            encoded,
            encoding,
            base=base,
            residual=Path(task.residual_path) if task.residual_path else None,
            residual_to=Path(task.residual_to) if task.residual_to else None,
        )
        digest, size, path = written.sha256, written.size_bytes, encoded
        plain.unlink()
    if not encoding.zstd:
        path.replace(target)
        return SavedUpdate(digest, size)
    packed = compress_file(path, target)
    path.unlink()
    return SavedUpdate(packed.sha256, packed.size_bytes, decoded_bytes=size)
