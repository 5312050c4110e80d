"""Tell whether the files of a data set are those that were registered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from common.datasets.files import DataFile, data_files
from common.errors import DataError, DataFileError
from common.ids import Digest


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file or folder looked like; equal digests mean equal content.

    Attributes:
        size_bytes: Of all files together.
        stamp: Equal ones mean that nothing was touched: when a file was changed last; of a folder, a number made of the name, size and
            time of change of each file in it.
        sha256: Of the content; of a folder, of the name, size and digest of each file.
    """

    size_bytes: int
    stamp: int
    sha256: Digest


def fingerprint(path: Path) -> Fingerprint:
    """Return what a file or folder looks like now; reads all of it.

    Raises:
        DataError: If it is gone, cannot be read, or a link in it leads out of it.
    """
    files = data_files(path)
    digests = [_digest(file.path) for file in files]
    if path.is_dir():
        lines = (
            f"{file.name}\0{file.size_bytes}\0{sha256}\n" for file, sha256 in zip(files, digests, strict=True)
        )
        content = hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    else:
        content = digests[0]
    return Fingerprint(sum(file.size_bytes for file in files), _stamp(path, files), Digest(content))


def untouched(path: Path, looks: Fingerprint) -> bool:
    """Tell by names, sizes and times alone whether a file or folder is as it was."""
    try:
        files = data_files(path)
    except DataError:
        return False
    return (sum(file.size_bytes for file in files), _stamp(path, files)) == (looks.size_bytes, looks.stamp)


def _stamp(path: Path, files: list[DataFile]) -> int:
    if not path.is_dir():
        return files[0].mtime_ns
    lines = "".join(f"{file.name}\0{file.size_bytes}\0{file.mtime_ns}\n" for file in files)
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8]) >> 1  # what SQLite takes as an integer


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataFileError(path=path, data_type="a data set", reason=error.strerror or str(error)) from error
