"""What the people of a node can see of the folders that its policy lets the web page show."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path, PurePosixPath

from common.errors import OutsideDataFoldersError
from node.home import NodeHome


class Kind(IntEnum):
    """What something in a folder is, in the order in which it is shown."""

    FOLDER = 0
    FILE = 1
    OUTSIDE = 2
    """A link that leads out of the data folder, to something hidden, or nowhere."""
    OTHER = 3
    """Neither file nor folder, or its name is no text."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder that may be shown.

    Attributes:
        folder: The number of its data folder, from 0.
        name: Its path from there, with slashes; empty for the data folder itself.
        path: Where it really is: absolute and without links.
        is_folder: Whether it is one.
    """

    folder: int
    name: str
    path: Path
    is_folder: bool

    @property
    def parent(self) -> str:
        """Return the `name` of the folder that it is in; empty for that of the data folder."""
        return str(PurePosixPath(self.name).parent) if "/" in self.name else ""


@dataclass(frozen=True, slots=True)
class Item:
    """Something in a folder: its own name, and what it is."""

    name: str
    kind: Kind
    is_link: bool


@dataclass(frozen=True, slots=True)
class Sized:
    """The same with its size, and Unix time of its last change; None if it cannot be told."""

    item: Item
    size_bytes: int | None
    changed_at: float | None


@dataclass(frozen=True, slots=True)
class Folders:
    """The data folders of a node.

    Attributes:
        home: The node.
    """

    home: NodeHome

    def roots(self) -> tuple[Path, ...]:
        """Return the data folders, as the policy names them.

        Raises:
            InvalidSettingsError: If the policy is wrong.
        """
        return self.home.policy().data_folders

    def place(self, folder: int, name: str) -> Place:
        """Return a place in a data folder, given its path from there.

        Raises:
            OutsideDataFoldersError: If it leads out of the folder, or through something hidden, or is not there.
        """
        roots = self.roots()
        if not 0 <= folder < len(roots):
            raise OutsideDataFoldersError(path=name, reason="there is no such data folder")
        if name and not all(_is_plain(part) for part in name.split("/")):
            raise OutsideDataFoldersError(path=repr(name), reason="it is no path inside of a data folder")
        real = self._confined(roots[folder], roots[folder] / name)
        return Place(folder, name, real, real.is_dir())

    def permit(self, path: Path) -> Path:
        """Return where a path really is, if that is in a data folder.

        Raises:
            OutsideDataFoldersError: If it is in none, or hidden, or not there.
        """
        reason = "no data folder holds it"
        for root in self.roots():
            try:
                return self._confined(root, path)
            except OutsideDataFoldersError as error:
                reason = str(error.facts["reason"])
        raise OutsideDataFoldersError(path=path, reason=reason)

    def items(self, place: Place) -> tuple[Item, ...]:
        """Return what is in a folder and not hidden: folders first, each kind in the order of names.

        Raises:
            OutsideDataFoldersError: If it is no folder, or cannot be read.
        """
        root = self.roots()[place.folder]
        try:
            with os.scandir(place.path) as entries:
                found = [self._item(root, entry) for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise OutsideDataFoldersError(path=place.name or place.path, reason=reason) from error
        return tuple(sorted(found, key=lambda item: (item.kind, item.name.casefold(), item.name)))

    def sized(self, place: Place, items: Iterable[Item]) -> tuple[Sized, ...]:
        """Return some items of a folder with their sizes."""
        return tuple(_sized(place.path, item) for item in items)

    def _confined(self, root: Path, path: Path) -> Path:
        """Return where a path really is, if that is in a folder, not hidden in it, and not the node's own.

        Raises:
            OutsideDataFoldersError: If it is not.
        """
        try:
            top, real, home = (
                Path(os.path.realpath(one, strict=True)) for one in (root, path, self.home.path)
            )
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "it cannot be found"
            raise OutsideDataFoldersError(path=path, reason=reason.lower()) from error
        if not real.is_relative_to(top):
            raise OutsideDataFoldersError(path=path, reason="it leads out of the data folder")
        if not all(_is_plain(part) for part in real.relative_to(top).parts):
            raise OutsideDataFoldersError(path=path, reason="it is hidden")
        if real.is_relative_to(home):
            raise OutsideDataFoldersError(path=path, reason="it belongs to the node itself")
        return real

    def _item(self, root: Path, entry: os.DirEntry[str]) -> Item:
        is_link = entry.is_symlink()
        if not entry.name.isprintable():
            return Item(entry.name, Kind.OTHER, is_link)
        if is_link:
            try:
                self._confined(root, Path(entry.path))
            except OutsideDataFoldersError:
                return Item(entry.name, Kind.OUTSIDE, is_link)
        kind = Kind.FOLDER if entry.is_dir() else Kind.FILE if entry.is_file() else Kind.OTHER
        return Item(entry.name, kind, is_link)


def _is_plain(part: str) -> bool:
    """Tell whether this can be the name of something that is not hidden; `..` begins with a dot too."""
    return bool(part) and not part.startswith(".") and "\0" not in part


def _sized(folder: Path, item: Item) -> Sized:
    if item.kind not in (Kind.FOLDER, Kind.FILE):
        return Sized(item, None, None)
    try:
        status = (folder / item.name).stat()
    except OSError:
        return Sized(item, None, None)  # gone since it was listed
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Sized(item, size, status.st_mtime)
