"""What the people of a node can see of the values in its data; each look is recorded with its person before it is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from common.audit.record import Action, Entry
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.errors import DataFileError
from common.ids import DatasetId, Digest
from node.dataset import Dataset
from node.home import NodeHome


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


def refuse_own(home: NodeHome, path: Path) -> None:
    """Make sure that a file or folder is nothing of the node itself.

    Raises:
        DataFileError: If it is, or has something of it inside.
    """
    if home.owns(path.expanduser()):
        raise DataFileError(
            path=path, data_type="data", reason="it is, or holds, what belongs to the node itself"
        )


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
        self.record(subject, "first samples")
        return tuple(found)

    def record(self, subject: Subject, what: str) -> None:
        """Record a look; of files that are not registered, by the digest of their path, which may name a patient.

        Raises:
            DataFileError: If it is of the node itself: its keys, for instance, which a link may have put in the place of data.
            AuditBrokenError: If it cannot be recorded; then nothing may be shown.
        """
        refuse_own(self.home, subject.path)
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
