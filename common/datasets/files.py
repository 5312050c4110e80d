"""Find the files of a data set without ever leaving it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import DataFileError

_WHAT: Final = "a data set"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set.

    Attributes:
        path: Where it is.
        name: Its path from the folder of the data set, with slashes; its own name if it is the data set.
        size_bytes: Its size.
        mtime_ns: When it was changed last.
    """

    path: Path
    name: str
    size_bytes: int
    mtime_ns: int


def data_files(root: Path) -> list[DataFile]:
    """Return a file, or all files below a folder in the order of their names.

    What begins with a dot is no data. A link counts as the file that it leads to, if that lies in the same folder.

    Raises:
        DataFileError: If there is nothing at the path, if something below it cannot be read or is neither file nor folder, or if a
            link leads to a folder or out of this one.
    """
    try:
        status = root.stat()
        if stat.S_ISREG(status.st_mode):
            return [DataFile(root, root.name, status.st_size, status.st_mtime_ns)]
        if not stat.S_ISDIR(status.st_mode):
            raise DataFileError(path=root, data_type=_WHAT, reason="it is neither a file nor a folder")
        return sorted(_below(root, root.resolve(), ""), key=lambda file: file.name)
    except OSError as error:
        raise DataFileError(path=root, data_type=_WHAT, reason=error.strerror or str(error)) from error


def inside(root: Path, name: str) -> Path:
    """Return the path of a file in a folder, given its path from there.

    Raises:
        DataFileError: If it leads out of the folder, or is no file.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataFileError(path=path, data_type=_WHAT, reason=f"it is outside {root}")
    if not path.is_file():
        raise DataFileError(path=path, data_type=_WHAT, reason="there is no such file")
    return path


def _below(folder: Path, root: Path, prefix: str) -> Iterator[DataFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path, name = folder / entry.name, prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _below(path, root, f"{name}/")
                continue
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                raise DataFileError(path=path, data_type=_WHAT, reason="it is a link to outside the folder")
            status = entry.stat()
            if not stat.S_ISREG(status.st_mode):
                raise DataFileError(path=path, data_type=_WHAT, reason="it is no regular file")
            yield DataFile(path, name, status.st_size, status.st_mtime_ns)
