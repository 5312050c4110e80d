"""Know one data set of a node, and keep it as a row of the registry."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from sqlite3 import Row
from typing import Final, Self

from pydantic import JsonValue, TypeAdapter

from common.ids import DatasetId, Digest, new_uuid
from common.messages import Column, DatasetDescription
from node.fingerprint import Fingerprint
from node.registration import Content, Labels

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

    @classmethod
    def of(
        cls,
        labels: Labels,
        path: Path,
        data_type: str,
        content: Content,
        *,
        loading: str | None,
        watched: bool,
    ) -> Self:
        """Return a new data set, with an id of its own, as somebody looked into it now."""
        found = content.inspection
        return cls(
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


def dataset_columns(dataset: Dataset) -> dict[str, object]:
    """Return a data set as a row of the registry, by column."""
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
def dataset_of(row: Row) -> Dataset:
    """Return the data set of a row of the registry; rows are kept, because every task looks its data set up."""
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
        columns=_COLUMNS.validate_json(row["columns"]),
        fingerprint=Fingerprint(row["size_bytes"], row["stamp"], Digest(row["sha256"])),
        added_at=row["added_at"],
        classes=tuple(json.loads(row["classes"])),
        left_out=row["left_out"],
        loading=row["loading"],
        watched=bool(row["watched"]),
        changed_at=row["changed_at"],
    )
