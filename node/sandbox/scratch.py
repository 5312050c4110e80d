"""Remove what a worker left behind."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def remove_scratch(folder: Path) -> None:
    """Remove a folder with all that is in it; nothing happens if there is none.

    Works however deep the folders in it are nested, follows no link, and holds two files open at most. Nobody may write to
    the folder any more. After a failure some of it may be left; calling again goes on.

    Raises:
        OSError: If something cannot be removed.
    """
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        while folders := _empty(top, top):
            for name in folders:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                try:
                    _empty(inner, top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    folder.rmdir()


def _empty(folder: int, top: int) -> list[str]:
    """Remove the files of a folder and lift its folders up to the top; return their names there."""
    lifted = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            os.chmod(
                entry.name, 0o700, dir_fd=folder
            )  # a folder can be made so that not even its owner may enter
            name = entry.name
            if folder != top:
                name = uuid.uuid4().hex
                os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
            lifted.append(name)
    return lifted
