"""Unpack archives of others: plain files and folders alone, in one folder, up to a size and a number."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from node.collections import Unpacking

_BLOCK: Final = 1024 * 1024


class ArchiveError(Exception):
    """An archive is damaged, or holds what it must not."""


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where it has more bytes than it may: headers of an archive count as well."""

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(min(size, _BLOCK) if size >= 0 else _BLOCK)
        self._left -= len(found)
        if self._left < 0:
            raise ArchiveError("it unpacks to more than it may")
        return found


def unpack(archive: Path, folder: Path, bounds: Unpacking) -> int:
    """Unpack a tar archive that is packed with gzip into a folder; return the number of its files.

    Modes, owners and times of the archive are not taken over.

    Raises:
        ArchiveError: If it is damaged, too large, leads out of its one folder, has a link, a device or the like, or names a file twice.
        OSError: If the folder cannot be written to.
    """
    count = 0
    try:
        with (
            gzip.open(archive) as stream,
            tarfile.open(fileobj=_Bounded(stream, bounds.most_bytes), mode="r|") as members,
        ):
            for member in members:
                count += 1
                if count > bounds.most_files:
                    raise ArchiveError(f"it has more than {bounds.most_files} members")
                place = _place(member, folder, bounds)
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                content = members.extractfile(member)
                if content is None:
                    raise ArchiveError(f"{member.name!r} has no content")
                with content, place.open("xb") as target:
                    shutil.copyfileobj(content, target)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveError("it is damaged") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError("it names a file twice") from error
    return sum(path.is_file() for path in folder.rglob("*"))


def _place(member: tarfile.TarInfo, folder: Path, bounds: Unpacking) -> Path:
    """Return where a member belongs."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != (bounds.below,):
        raise ArchiveError(f"{member.name!r} is not in {bounds.below}")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ArchiveError(f"{member.name!r} is neither a plain file nor a folder")
    return folder.joinpath(*path.parts[1:])
