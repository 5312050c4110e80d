"""What the people of a node can see of the values in its data; each look is recorded with its person before it is shown."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from common.audit.record import Action, Entry
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.ids import DatasetId, Digest
from node.home import NodeHome
from node.registry import Dataset

if TYPE_CHECKING:
    from node.views.figures import Glimpse, Summary

_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at: a data set, or files that may become one.

    Attributes:
        path: The file or folder.
        data_type: Its family.
        options: Those of the family.
        dataset_id: Its id, if it is registered.
    """

    path: Path
    data_type: str
    options: Mapping[str, JsonValue]
    dataset_id: DatasetId | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Subject:
        """Return a registered data set."""
        return cls(dataset.path, dataset.data_type, dataset.parameters, dataset.dataset_id)


@dataclass(frozen=True, slots=True)
class Looks:
    """The values of data, before the eyes of one person.

    Attributes:
        home: The node.
        by: The name of the person, for the audit log.
    """

    home: NodeHome
    by: str

    def rows(self, subject: Subject, count: int) -> tuple[Mapping[str, JsonValue], ...]:
        """Return facts and values of the first samples.

        Raises:
            InvalidDatasetError: If an option is wrong; names every mistake.
            DataError: If they cannot be read.
            AuditBrokenError: If the look cannot be recorded; nothing is shown.
        """
        kind = family(subject.data_type)
        found = kind.preview(subject.path.expanduser(), parsed(kind.options, subject.options), count)
        self._record(subject, "first samples")
        return tuple(found)

    def glimpse(self, subject: Subject, count: int, most_columns: int) -> Glimpse:
        """Return the same with pictures and signals, and no more than can be shown; loads the libraries of the data.

        Raises:
            InvalidDatasetError: As `rows` does.
            DataError: As `rows` does.
            MissingExtraError: If a library is not installed.
            AuditBrokenError: As `rows` does.
        """
        from node.views.figures import Glimpse
        from node.views.pictures import sheet
        from node.views.traces import traces

        drawn = sheet(subject.path, subject.data_type, subject.options)
        lines = traces(subject.path, subject.data_type, subject.options)
        rows = tuple(
            {name: _short(value) for name, value in list(row.items())[:most_columns]}
            for row in self.rows(subject, count)
        )
        if drawn is None:
            return Glimpse(rows=rows, traces=lines)
        png = base64.b64encode(drawn.png).decode()
        return Glimpse(rows=rows, tiles=drawn.tiles, sheet=png, across=drawn.across, traces=lines)

    def summary(self, subject: Subject) -> Summary:
        """Return counts of all samples; loads the libraries of the data.

        Raises:
            InvalidDatasetError: As `rows` does.
            DataError: As `rows` does.
            MissingExtraError: If a library is not installed.
            AuditBrokenError: As `rows` does.
        """
        from node.views.summaries import summary

        found = summary(subject.path, subject.data_type, subject.options)
        self._record(subject, "summary")
        return found

    def _record(self, subject: Subject, what: str) -> None:
        """Record a look; of files that are not registered, by the digest of their path, which may name a patient."""
        path = str(subject.path).encode("utf-8", "surrogateescape")
        self.home.audit().append(
            Entry(
                action=Action.VALUES_SEEN,
                actor=f"person {self.by}",
                dataset_id=subject.dataset_id,
                digest=None if subject.dataset_id else Digest(hashlib.sha256(path).hexdigest()),
                note=what if subject.dataset_id else f"{what}, before registration",
            )
        )


def _short(value: JsonValue) -> JsonValue:
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value
