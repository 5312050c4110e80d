"""Register the data sets of a node: what they are called, where they lie, what they look like.

The data itself stays where it is. Other parties see the description only: never a path, never a value.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydantic import JsonValue, TypeAdapter

from common.errors import (
    DataFileError,
    DataFileGoneError,
    InvalidDatasetError,
    NoSuchDatasetError,
    TagsOverlapError,
    TooFewSamplesError,
)
from common.ids import DatasetId, Digest, new_uuid
from common.messages import Column, DatasetDescription
from common.sqlite import transaction
from node.database import open_registry

DATA_TYPES: Final = ("tabular",)
"""The file families that a data set can be of."""

_LENGTHS: Final = {"name": (3, 200), "tag": (2, 100), "description": (3, 2000)}
"""Least and most characters."""
_MOST_TAGS: Final = 50
_MOST_COLUMNS: Final = 2000
"""Columns that a description can name."""

_COLUMNS: Final[TypeAdapter[tuple[Column, ...]]] = TypeAdapter(tuple[Column, ...])


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a data file looked like; equal digests mean equal content."""

    size_bytes: int
    mtime_ns: int
    sha256: Digest


@dataclass(frozen=True, slots=True)
class Dataset:
    """One registered data set.

    Attributes:
        dataset_id: Its id, which other parties know.
        name: Its name, unique at the node.
        data_type: One of `DATA_TYPES`.
        tags: What searches find it by; normalised and sorted.
        description: For people.
        path: The file, absolute; never leaves the node.
        parameters: Options of the reader.
        samples: Rows.
        shape: (rows, columns) of a table.
        columns: Name, type and number of missing values of each column.
        fingerprint: What the file looked like when it was registered.
        added_at: Unix time of its registration.
        test: Another data set to validate on, for a task that asks for one.
    """

    dataset_id: DatasetId
    name: str
    data_type: str
    tags: tuple[str, ...]
    description: str
    path: Path = field(repr=False)
    parameters: Mapping[str, JsonValue]
    samples: int
    shape: tuple[int, ...]
    columns: tuple[Column, ...]
    fingerprint: Fingerprint = field(repr=False)
    added_at: float
    test: Dataset | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files that a task on it reads."""
        return (self.path,) if self.test is None else (self.path, self.test.path)

    def describe(self) -> DatasetDescription:
        """Return what other parties may know: no path, no value, and the first columns only of a very wide table."""
        return DatasetDescription(
            dataset_id=self.dataset_id,
            name=self.name,
            data_type=self.data_type,
            tags=self.tags,
            description=self.description,
            samples=self.samples,
            shape=self.shape,
            columns=self.columns[:_MOST_COLUMNS],
        )


class Registry:
    """The data sets of one node, on disk.

    Several processes may use the same file at once; each change is atomic and on disk when the call returns.
    One thread at a time may use an instance.
    """

    def __init__(self, path: Path) -> None:
        """Open the registry, making it if there is none.

        Raises:
            StorageError: If the file cannot be used; see `common.sqlite.open_database`.
        """
        self._db = open_registry(path)

    def add(
        self,
        path: Path,
        *,
        name: str,
        tags: Iterable[str],
        description: str,
        data_type: str = "tabular",
        parameters: Mapping[str, JsonValue] | None = None,
        minimum_samples: int = 0,
        witness: Callable[[Dataset], None] = lambda _: None,
    ) -> Dataset:
        """Read a data set once, check it, and register it.

        Args:
            path: Its file.
            name: At least 3 characters, unique at this node.
            tags: At least one, each of at least 2 characters; see `normalised`.
            description: At least 3 characters, for people.
            data_type: One of `DATA_TYPES`.
            parameters: Options of the reader.
            minimum_samples: Fewest rows that the policy of the node allows.
            witness: Told before it counts; nothing is registered if that raises.

        Raises:
            InvalidDatasetError: If name, tags, description or type break a rule; names every mistake.
            DataFileError: If the file cannot be read as a table.
            TooFewSamplesError: If it has too few rows.
            TagsOverlapError: If its tags contain or are contained in those of another data set.
        """
        wanted = normalised(tags)
        _check_texts(name, wanted, description, data_type)
        path = path.expanduser().absolute()
        looks = fingerprint(path, data_type)
        samples, shape, columns = _inspect(path)
        if not _same_file(path, looks):
            raise DataFileError(
                path=path, data_type=f"{data_type} data", reason="it changed while it was read"
            )
        if samples < minimum_samples:
            raise TooFewSamplesError(samples=samples, minimum=minimum_samples)
        dataset = Dataset(
            dataset_id=DatasetId(new_uuid()),
            name=name.strip(),
            data_type=data_type,
            tags=wanted,
            description=description.strip(),
            path=path,
            parameters=dict(parameters or {}),
            samples=samples,
            shape=shape,
            columns=columns,
            fingerprint=looks,
            added_at=time.time(),
        )
        with transaction(self._db):
            for other in self.list():
                _check_neighbours(dataset, other)
            self._db.execute(f"INSERT INTO dataset VALUES ({', '.join('?' * 14)})", _row(dataset))  # noqa: S608 - no values in it
            witness(dataset)
        return dataset

    def list(self) -> tuple[Dataset, ...]:
        """Return all data sets, in the order of their names."""
        return tuple(_dataset(row) for row in self._db.execute("SELECT * FROM dataset ORDER BY name"))

    def get(self, dataset_id: str) -> Dataset:
        """Return one data set.

        Raises:
            NoSuchDatasetError: If it is not registered.
        """
        row = self._db.execute("SELECT * FROM dataset WHERE dataset_id = ?", (dataset_id,)).fetchone()
        if row is None:
            raise NoSuchDatasetError(dataset=dataset_id)
        return _dataset(row)

    def find(self, text: str) -> Dataset:
        """Return the data set with this name or id.

        Raises:
            NoSuchDatasetError: If there is none.
        """
        row = self._db.execute(
            "SELECT * FROM dataset WHERE name = ? OR dataset_id = ?", (text, text)
        ).fetchone()
        if row is None:
            raise NoSuchDatasetError(dataset=text)
        return _dataset(row)

    def search(self, tags: Iterable[str]) -> tuple[Dataset, ...]:
        """Return the data sets that carry all these tags, in the order of their names."""
        wanted = set(normalised(tags))
        return tuple(dataset for dataset in self.list() if wanted <= set(dataset.tags))

    def remove(self, dataset_id: str, *, witness: Callable[[], None] = lambda: None) -> None:
        """Forget a data set; its file stays.

        Args:
            dataset_id: Its id.
            witness: Told before it counts; nothing is forgotten if that raises.

        Raises:
            NoSuchDatasetError: If it is not registered.
        """
        with transaction(self._db):
            if not self._db.execute("DELETE FROM dataset WHERE dataset_id = ?", (dataset_id,)).rowcount:
                raise NoSuchDatasetError(dataset=dataset_id)
            witness()

    def check(self, dataset: Dataset) -> None:
        """Make sure that the file of a data set is the one that was registered.

        Fast when size and modification time are as they were; otherwise the content decides, and a file that was only
        touched or copied back is fine.

        Raises:
            DataFileGoneError: If the file is gone, cannot be read, or has another content.
        """
        if _same_file(dataset.path, dataset.fingerprint):
            return
        try:
            looks = fingerprint(dataset.path, dataset.data_type)
        except DataFileError as error:
            what = "became unreadable" if dataset.path.exists() else "has gone"
            raise DataFileGoneError(name=dataset.name, what=what) from error
        if looks.sha256 != dataset.fingerprint.sha256:
            raise DataFileGoneError(name=dataset.name, what="has changed")
        with transaction(self._db):
            self._db.execute(
                "UPDATE dataset SET mtime_ns = ? WHERE dataset_id = ?", (looks.mtime_ns, dataset.dataset_id)
            )

    def close(self) -> None:
        """Close the database; idempotent."""
        self._db.close()


def normalised(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as they are compared: trimmed, in lower case and Unicode NFC, without duplicates, sorted."""
    plain = {unicodedata.normalize("NFC", tag.strip().lower()) for tag in tags}
    return tuple(sorted(plain - {""}))


def fingerprint(path: Path, data_type: str) -> Fingerprint:
    """Return what a file looks like now; reads all of it.

    Raises:
        DataFileError: If it is no readable file.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataFileError(
            path=path, data_type=f"{data_type} data", reason=error.strerror or str(error)
        ) from error
    return Fingerprint(status.st_size, status.st_mtime_ns, Digest(digest))


def _same_file(path: Path, looks: Fingerprint) -> bool:
    """Tell by size and modification time alone whether a file is as it was."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (looks.size_bytes, looks.mtime_ns)


def _inspect(path: Path) -> tuple[int, tuple[int, ...], tuple[Column, ...]]:
    """Return rows, shape and columns of a table."""
    from common.datasets.inspection import inspect_tabular  # polars is slow to import and rarely needed here

    table = inspect_tabular(path)
    return table.rows, table.shape, table.columns


def _check_texts(name: str, tags: tuple[str, ...], description: str, data_type: str) -> None:
    """Raise one error that names every rule that is broken."""
    texts = [("name", name), *(("tag", tag) for tag in tags), ("description", description)]
    problems = [
        f"{what} {text.strip()!r} needs {least} to {most} characters"
        for what, text in texts
        for least, most in [_LENGTHS[what]]
        if not least <= len(text.strip()) <= most
    ]
    if not 1 <= len(tags) <= _MOST_TAGS:
        problems.append(f"{len(tags)} tags were given, 1 to {_MOST_TAGS} are needed")
    if data_type not in DATA_TYPES:
        problems.append(f"type {data_type!r} is none of {', '.join(DATA_TYPES)}")
    if problems:
        raise InvalidDatasetError(reason="; ".join(problems))


def _check_neighbours(dataset: Dataset, other: Dataset) -> None:
    """Raise if two data sets of one node could not be told apart by name or by search."""
    if dataset.name == other.name:
        raise InvalidDatasetError(reason=f"the name {other.name!r} is taken")
    ours, theirs = set(dataset.tags), set(other.tags)
    if ours <= theirs or ours >= theirs:
        raise TagsOverlapError(
            tags=", ".join(dataset.tags), other=other.name, other_tags=", ".join(other.tags)
        )


def _row(dataset: Dataset) -> tuple[object, ...]:
    """Return a data set in the order of the table's columns."""
    return (
        dataset.dataset_id,
        dataset.name,
        dataset.data_type,
        json.dumps(dataset.tags),
        dataset.description,
        str(dataset.path),
        json.dumps(dataset.parameters),
        dataset.samples,
        json.dumps(dataset.shape),
        _COLUMNS.dump_json(dataset.columns).decode(),
        dataset.fingerprint.size_bytes,
        dataset.fingerprint.mtime_ns,
        dataset.fingerprint.sha256,
        dataset.added_at,
    )


@lru_cache(maxsize=64)
def _columns(text: str) -> tuple[Column, ...]:
    """Return columns from their JSON; kept, because every task looks its data set up."""
    return _COLUMNS.validate_json(text)


def _dataset(row: sqlite3.Row) -> Dataset:
    """Return the data set of a row."""
    return Dataset(
        dataset_id=DatasetId(row["dataset_id"]),
        name=row["name"],
        data_type=row["data_type"],
        tags=tuple(json.loads(row["tags"])),
        description=row["description"],
        path=Path(row["path"]),
        parameters=json.loads(row["parameters"]),
        samples=row["samples"],
        shape=tuple(json.loads(row["shape"])),
        columns=_columns(row["columns"]),
        fingerprint=Fingerprint(row["size_bytes"], row["mtime_ns"], Digest(row["sha256"])),
        added_at=row["added_at"],
    )
