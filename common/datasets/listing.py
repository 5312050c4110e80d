"""List the files of a data set that are one sample each, with their labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.datasets.families.base import Options
from common.datasets.files import data_files, inside
from common.errors import DataFileError, UnknownCategoryError, UnknownColumnError

_MOST_CLASSES: Final = 2000


class ListingOptions(Options):
    """Where the files of a folder have their labels."""

    table: str | None = None
    """A table in the folder that lists the files; none if each lies in a sub-folder with the name of its class."""
    file_column: str = "file"
    """The column of the table that holds paths from the folder."""
    label_column: str = "label"
    """Its column of labels: text and whole numbers are classes, other numbers are values to predict."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Files and their labels.

    Attributes:
        names: Their paths from the folder, with slashes.
        labels: The class of each, or a number to predict.
        classes: All classes in the order of their names; none if numbers are to be predicted.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...] | tuple[float, ...]
    classes: tuple[str, ...]

    def without(self, names: Collection[str]) -> Listing:
        """Return the same without these files; classes stay."""
        kept = [position for position, name in enumerate(self.names) if name not in names]
        labels: Any = tuple(self.labels[position] for position in kept)
        return Listing(tuple(self.names[position] for position in kept), labels, self.classes)

    def targets(self, classes: Sequence[str] | None) -> NDArray[Any]:
        """Return the position of each file's class (int64), or its number (float32).

        Args:
            classes: All classes of the plan, in their order; those of the listing if the plan has none.

        Raises:
            UnknownCategoryError: If there is a class that the plan does not name.
        """
        if not self.classes:
            return np.array(self.labels, np.float32)
        known = self.classes if classes is None else classes
        numbers = {label: number for number, label in enumerate(known)}
        if unknown := sum(label not in numbers for label in self.labels):
            raise UnknownCategoryError(count=unknown, column="class", known=", ".join(known))
        return np.array([numbers[str(label)] for label in self.labels], np.int64)


def list_files(root: Path, options: ListingOptions, suffixes: Collection[str]) -> Listing:
    """Return the files below a folder that have these suffixes, or that its table lists, without reading any.

    Raises:
        DataFileError: If it is no folder, something in it leads out of it, it holds no such file, or one lies in no class.
        UnknownColumnError: If the table lacks a column.
    """
    if not root.is_dir():
        raise DataFileError(path=root, data_type="such a folder", reason="it is no folder")
    if options.table is not None:
        return _listed_in_table(root, inside(root, options.table), options)
    names = tuple(
        file.name for file in data_files(root) if PurePosixPath(file.name).suffix.lower() in suffixes
    )
    labels = tuple(name.partition("/")[0] for name in names)
    if lost := next((name for name in names if "/" not in name), None):
        raise DataFileError(path=root / lost, data_type="a sample", reason="it is in no folder of a class")
    return Listing(names, labels, _classes(root, labels))


def _listed_in_table(root: Path, table: Path, options: ListingOptions) -> Listing:
    from common.datasets.inspection import column_names, read_columns  # polars, which folders do not need

    known = column_names(table)
    for column in (options.file_column, options.label_column):
        if column not in known:
            raise UnknownColumnError(column=column, columns=", ".join(known))
    rows = read_columns(table, [options.file_column, options.label_column])
    files, labels = rows[options.file_column].cast(str), rows[options.label_column]
    if files.null_count() or labels.null_count() or files.n_unique() < len(files):
        reason = "a row lacks its file or its label, or a file is listed twice"
        raise DataFileError(path=table, data_type="a list of files", reason=reason)
    if out := next((name for name in files if not _stays(name)), None):
        raise DataFileError(path=table, data_type="a list of files", reason=f"{out} is outside the folder")
    if labels.dtype.is_float():
        return Listing(tuple(files), tuple(labels), ())
    names = tuple(labels.cast(str))
    return Listing(tuple(files), names, _classes(root, names))


def _stays(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _classes(root: Path, labels: Sequence[str]) -> tuple[str, ...]:
    classes = tuple(sorted(set(labels)))
    if not 0 < len(classes) <= _MOST_CLASSES:
        reason = f"it has {len(classes)} classes, and 1 to {_MOST_CLASSES} are possible"
        raise DataFileError(path=root, data_type="such a folder", reason=reason)
    return classes
