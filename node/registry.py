"""Register the data sets of a node: what they are called, where they lie, what they look like.

The data itself stays where it is. Other parties see the description only: never a path, never a value.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydantic import JsonValue, TypeAdapter

from common.errors import (
    DataError,
    DataFileGoneError,
    InvalidDatasetError,
    NoSuchDatasetError,
    NoSuchLoadingPlanError,
)
from common.ids import DatasetId, Digest, new_uuid
from common.messages import Column, DatasetDescription
from common.sqlite import transaction
from node.database import open_registry
from node.fingerprint import Fingerprint, fingerprint, untouched
from node.registration import Content, Labels, looked_into, normalised

_MOST_COLUMNS: Final = 2000
"""Columns that a description can name."""

_COLUMNS: Final[TypeAdapter[tuple[Column, ...]]] = TypeAdapter(tuple[Column, ...])


@dataclass(frozen=True, slots=True)
class Dataset:
    """One registered data set.

    Attributes:
        dataset_id: Its id, which other parties know.
        name: Its name, unique at the node.
        data_type: One of `DATA_TYPES`.
        tags: What searches find it by; normalised and sorted.
        description: For people.
        path: The file or folder, absolute; never leaves the node.
        parameters: Options of its family.
        samples: How many can be used.
        shape: (rows, columns) of a table; of others, samples first.
        columns: Name, type and number of missing values of each column, or of each part of a sample.
        fingerprint: What the files looked like when it was registered.
        added_at: Unix time of its registration.
        classes: Names of its classes, if it has any.
        left_out: Samples that are there and cannot be used, or must not be.
        loading: Name of the data-loading plan that made its options, if one did.
        watched: Whether the agent looks out for changes of its files.
        changed_at: Unix time at which the agent saw a change that nobody has looked at yet; no task runs on it until then.
        test: Another data set to validate on, for a task that asks for one.
        joined: Another data set to join to this one, likewise.
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
    classes: tuple[str, ...] = ()
    left_out: int = 0
    loading: str | None = None
    watched: bool = False
    changed_at: float | None = None
    test: Dataset | None = None
    joined: Dataset | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files that a task on it reads."""
        return tuple(one.path for one in (self, self.test, self.joined) if one is not None)

    @property
    def labels(self) -> Labels:
        """Return what people call it."""
        return Labels(self.name, self.tags, self.description)

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
            classes=self.classes[:_MOST_COLUMNS],
            left_out=self.left_out,
            available=self.changed_at is None,
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
        loading: str | None = None,
        watched: bool = False,
        minimum_samples: int = 0,
        witness: Callable[[Dataset], None] = lambda _: None,
    ) -> Dataset:
        """Read a data set once, check it, and register it.

        Args:
            path: Its file or folder.
            name: At least 3 characters, unique at this node.
            tags: At least one, each of at least 2 characters; see `normalised`.
            description: At least 3 characters, for people.
            data_type: A family of `common.datasets.families`.
            parameters: Options of that family.
            loading: The data-loading plan that made them.
            watched: Whether the agent looks out for changes of its files.
            minimum_samples: Fewest samples that the policy of the node allows.
            witness: Told before it counts; nothing is registered if that raises.

        Raises:
            InvalidDatasetError: If name, tags, description, type or options break a rule; names every mistake.
            DataError: If it cannot be read as what it is said to be, has too few samples, or its tags contain or are
                contained in those of another data set.
            MissingExtraError: If the library for that type is not installed.
        """
        labels = Labels.of(name, tags, description, data_type)
        path = path.expanduser().absolute()
        content = looked_into(path, data_type, parameters or {}, minimum_samples=minimum_samples)
        dataset = _made(labels, path, data_type, content, loading, watched=watched)
        with transaction(self._db):
            self._put(dataset)
            witness(dataset)
        return dataset

    def update(
        self,
        dataset: Dataset,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        description: str | None = None,
        path: Path | None = None,
        parameters: Mapping[str, JsonValue] | None = None,
        loading: str | None = None,
        watched: bool | None = None,
        minimum_samples: int = 0,
        witness: Callable[[Dataset], None] = lambda _: None,
    ) -> Dataset:
        """Look into a data set again and register it as it is now; what is not given stays, but for the data-loading plan.

        It keeps its id if neither content nor options changed; else it is another data set with another id, and an experiment
        that counts on the old one is refused and not trained on other samples unawares.

        Raises:
            InvalidDatasetError: As `add` does, and if somebody changed it meanwhile.
            DataError: As `add` does.
            MissingExtraError: As `add` does.
            NoSuchDatasetError: If somebody removed it meanwhile.
        """
        labels = Labels.of(
            name or dataset.name,
            dataset.tags if tags is None else tags,
            description or dataset.description,
            dataset.data_type,
        )
        place = dataset.path if path is None else path.expanduser().absolute()
        options = dataset.parameters if parameters is None else parameters
        content = looked_into(place, dataset.data_type, options, minimum_samples=minimum_samples)
        watched = dataset.watched if watched is None else watched
        made = _made(labels, place, dataset.data_type, content, loading, watched=watched)
        same = (made.fingerprint.sha256, made.parameters) == (dataset.fingerprint.sha256, dataset.parameters)
        if same:
            made = replace(made, dataset_id=dataset.dataset_id, added_at=dataset.added_at)
        with transaction(self._db):
            now = self.get(dataset.dataset_id)
            if replace(now, fingerprint=dataset.fingerprint, changed_at=dataset.changed_at) != dataset:
                raise InvalidDatasetError(reason="somebody else changed it meanwhile")
            self._drop(dataset.dataset_id)
            self._put(made)
            witness(made)
        return made

    def _put(self, dataset: Dataset) -> None:
        for other in self.list():
            dataset.labels.tell_apart(other.labels)
        if dataset.loading not in (
            None,
            *(row[0] for row in self._db.execute("SELECT name FROM loading_plan")),
        ):
            raise NoSuchLoadingPlanError(name=dataset.loading)
        row = _row(dataset)
        self._db.execute(
            f"INSERT INTO dataset ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - names of columns
            tuple(row.values()),
        )

    def _drop(self, dataset_id: str) -> None:
        if not self._db.execute("DELETE FROM dataset WHERE dataset_id = ?", (dataset_id,)).rowcount:
            raise NoSuchDatasetError(dataset=dataset_id)

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
        """Forget a data set; its file stays. Nothing is forgotten if the witness raises.

        Raises:
            NoSuchDatasetError: If it is not registered.
        """
        with transaction(self._db):
            self._drop(dataset_id)
            witness()

    def check(self, dataset: Dataset, *, thorough: bool = False) -> None:
        """Make sure that the files of a data set are those that were registered.

        Fast when names, sizes and modification times are as they were; otherwise, and if it is to be thorough, the content decides,
        and a file that was only touched or copied back is fine.

        Raises:
            DataFileGoneError: If the file is gone, cannot be read, or has another content.
        """
        if not thorough and untouched(dataset.path, dataset.fingerprint):
            return
        try:
            looks = fingerprint(dataset.path)
        except DataError as error:
            what = "became unreadable" if dataset.path.exists() else "has gone"
            raise DataFileGoneError(name=dataset.name, what=what) from error
        if looks.sha256 != dataset.fingerprint.sha256:
            raise DataFileGoneError(name=dataset.name, what="has changed")
        with transaction(self._db):
            self._db.execute(
                "UPDATE dataset SET stamp = ? WHERE dataset_id = ?", (looks.stamp, dataset.dataset_id)
            )

    def mark(
        self, dataset_id: str, changed_at: float | None, *, witness: Callable[[], None] = lambda: None
    ) -> None:
        """Note that the files of a data set changed and that nobody has looked at it yet, or that somebody has (None).

        Raises:
            NoSuchDatasetError: If it is not registered.
        """
        with transaction(self._db):
            statement = "UPDATE dataset SET changed_at = ? WHERE dataset_id = ?"
            if not self._db.execute(statement, (changed_at, dataset_id)).rowcount:
                raise NoSuchDatasetError(dataset=dataset_id)
            witness()

    def version(self) -> tuple[int, int]:
        """Return what differs after this or another connection has changed anything; asking is cheap."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0]), self._db.total_changes

    def close(self) -> None:
        """Close the database; idempotent."""
        self._db.close()


def _made(
    labels: Labels, path: Path, data_type: str, content: Content, loading: str | None, *, watched: bool
) -> Dataset:
    """Return a new data set."""
    found = content.inspection
    return Dataset(
        dataset_id=DatasetId(new_uuid()),
        name=labels.name,
        data_type=data_type,
        tags=labels.tags,
        description=labels.description,
        path=path,
        parameters=content.parameters,
        samples=found.samples,
        shape=found.shape,
        columns=found.columns,
        fingerprint=content.fingerprint,
        added_at=time.time(),
        classes=found.classes,
        left_out=found.left_out + len(found.broken),
        loading=loading,
        watched=watched,
    )


def _row(dataset: Dataset) -> dict[str, object]:
    """Return a data set as a row of the table, by column."""
    return {
        "dataset_id": dataset.dataset_id,
        "name": dataset.name,
        "data_type": dataset.data_type,
        "tags": json.dumps(dataset.tags),
        "description": dataset.description,
        "path": str(dataset.path),
        "parameters": json.dumps(dataset.parameters),
        "samples": dataset.samples,
        "shape": json.dumps(dataset.shape),
        "columns": _COLUMNS.dump_json(dataset.columns).decode(),
        "size_bytes": dataset.fingerprint.size_bytes,
        "stamp": dataset.fingerprint.stamp,
        "sha256": dataset.fingerprint.sha256,
        "added_at": dataset.added_at,
        "classes": json.dumps(dataset.classes),
        "left_out": dataset.left_out,
        "loading": dataset.loading,
        "watched": int(dataset.watched),
        "changed_at": dataset.changed_at,
    }


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
        fingerprint=Fingerprint(row["size_bytes"], row["stamp"], Digest(row["sha256"])),
        added_at=row["added_at"],
        classes=tuple(json.loads(row["classes"])),
        left_out=row["left_out"],
        loading=row["loading"],
        watched=bool(row["watched"]),
        changed_at=row["changed_at"],
    )
