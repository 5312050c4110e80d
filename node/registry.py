"""Register the data sets of a node: what they are called, where they lie, what they look like.

The data itself stays where it is. Other parties see the description only: never a path, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from common.errors import (
    DataError,
    DataFileGoneError,
    InvalidDatasetError,
    NoSuchDatasetError,
    NoSuchLoadingPlanError,
)
from common.sqlite import transaction
from node.database import open_registry
from node.dataset import Dataset, dataset_columns, dataset_of
from node.fingerprint import fingerprint, untouched
from node.registration import Labels, looked_into, normalised


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
        dataset = Dataset.of(labels, path, data_type, content, loading=loading, watched=watched)
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
        made = Dataset.of(labels, place, dataset.data_type, content, loading=loading, watched=watched)
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
        row = dataset_columns(dataset)
        self._db.execute(
            f"INSERT INTO dataset ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - names of columns
            tuple(row.values()),
        )

    def _drop(self, dataset_id: str) -> None:
        if not self._db.execute("DELETE FROM dataset WHERE dataset_id = ?", (dataset_id,)).rowcount:
            raise NoSuchDatasetError(dataset=dataset_id)

    def list(self) -> tuple[Dataset, ...]:
        """Return all data sets, in the order of their names."""
        return tuple(dataset_of(row) for row in self._db.execute("SELECT * FROM dataset ORDER BY name"))

    def get(self, dataset_id: str) -> Dataset:
        """Return one data set.

        Raises:
            NoSuchDatasetError: If it is not registered.
        """
        row = self._db.execute("SELECT * FROM dataset WHERE dataset_id = ?", (dataset_id,)).fetchone()
        if row is None:
            raise NoSuchDatasetError(dataset=dataset_id)
        return dataset_of(row)

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
        return dataset_of(row)

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
