"""Write files that are whole or absent, and keep private ones private."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from common.errors import DiskFullError, KitError

PART_BYTES: Final = 64 * 1024
"""Largest file of a kit, except the roster."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, alone: bool = False) -> None:
    """Write a file so that readers and crashes see the old content or the new, never a part.

    The file has `mode` from the moment it exists. File and folder are synced before this returns. After a failure
    the old content or the new is there, and no temporary file; a process that is killed may leave one.

    Args:
        path: The file.
        data: All of its new content.
        mode: Its permissions.
        alone: Whether nobody else writes this file, so that what killed processes left of it can be removed.

    Raises:
        DiskFullError: If the disk is full or a quota was reached.
        OSError: If the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        if alone:
            for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
                left.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(path=str(path)) from error
        raise


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; otherwise as `write_atomic`."""
    write_atomic(path, data, mode=0o600)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_part(folder: Path, name: str, *, private: bool = False, limit_bytes: int = PART_BYTES) -> bytes:
    """Read one file of a kit.

    Args:
        folder: The kit.
        name: The file in it.
        private: Whether to refuse a file that others than its owner can reach.
        limit_bytes: Size above which the file is refused unread.

    Raises:
        KitError: If the file is missing, unreadable, no regular file, too large, or too open.
    """
    path = folder / name
    try:
        # Non-blocking, so that a named pipe in place of the file is refused instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KitError(path=str(folder), reason=f"{name} is not a regular file")
            if private and status.st_mode & 0o077:
                raise KitError(
                    path=str(folder), reason=f"{name} is open to other users; run `chmod 600 {path}`"
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit_bytes + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise KitError(path=str(folder), reason=f"{name} is missing") from error
    except OSError as error:
        raise KitError(path=str(folder), reason=f"{name} cannot be read: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise KitError(path=str(folder), reason=f"{name} is larger than {limit_bytes} bytes")
    return data
