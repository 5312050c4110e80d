"""What the people of a node do with its data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from common.audit.record import Action, Entry
from common.datasets.families.base import Inspection
from common.datasets.families.detection import detected
from common.errors import DataError
from node.dataset import Dataset
from node.home import NodeHome
from node.loading import LoadingPlan
from node.registration import check_labels, looked_into
from node.registry import Registry
from node.steward.loading import Loading
from node.steward.looks import Looks, Subject, refuse_own


@dataclass(frozen=True, slots=True)
class NewDataset:
    """What a person says about a data set that is to be registered.

    Attributes:
        path: Its file or folder; `~` stands for the home of the person.
        name: Its name, unique at the node.
        tags: What searches find it by.
        description: For people.
        data_type: Its family; that of the data-loading plan, or the one that the names of its files tell, if not given.
        options: Options of its family; they win over those of the plan.
        loading: Name of a data-loading plan, whose type and options are taken over.
        watched: Whether the agent looks out for changes of its files.
    """

    path: Path
    name: str
    tags: tuple[str, ...]
    description: str
    data_type: str | None = None
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    loading: str | None = None
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be another in a data set; what is None stays, and so do options that are not named."""

    path: Path | None = None
    name: str | None = None
    tags: tuple[str, ...] | None = None
    description: str | None = None
    options: Mapping[str, JsonValue] | None = None
    loading: str | None = None
    watched: bool | None = None


@dataclass(frozen=True, slots=True)
class Updated:
    """A data set as it is now, and as it was."""

    dataset: Dataset
    before: Dataset

    @property
    def is_another(self) -> bool:
        """Tell whether content or options changed, so that experiments which count on the old id are refused."""
        return self.dataset.dataset_id != self.before.dataset_id


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look at the files of a data set found: a problem, or none."""

    dataset: Dataset
    problem: DataError | None


@dataclass(frozen=True, slots=True)
class Datasets:
    """The data sets of a node, in the hands of one person.

    Attributes:
        home: The node.
        by: The name of the person, for the audit log.
    """

    home: NodeHome
    by: str

    def detect(self, path: Path) -> str:
        """Return the family that a file or folder looks like.

        Raises:
            DataFileError: If it cannot be read, or looks like none.
        """
        return detected(path.expanduser())

    def look(self, path: Path, data_type: str, options: Mapping[str, JsonValue]) -> Inspection:
        """Return what would be registered, after reading all of it; nothing is changed.

        Raises:
            InvalidDatasetError: If an option is wrong; names every mistake.
            DataError: If it cannot be read as that, or has fewer samples than the policy requires.
            MissingExtraError: If the library for that type is not installed.
        """
        minimum = self.home.policy().minimum_samples
        refuse_own(self.home, path)
        return looked_into(path.expanduser(), data_type, options, minimum_samples=minimum).inspection

    def check_labels(
        self,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        description: str | None = None,
        of: str | None = None,
    ) -> None:
        """Make sure that some of the labels of a data set keep the rules: of a new one, or of that with the id `of`.

        Raises:
            InvalidDatasetError: If one breaks a rule or the name is taken; names every mistake.
            TagsOverlapError: If the tags contain, or are contained in, those of another set.
        """
        others = [dataset.labels for dataset in self.list() if dataset.dataset_id != of]
        check_labels(others, name=name, tags=tags, description=description)

    def add(self, wish: NewDataset) -> Dataset:
        """Read a data set once, check it, and register it; one set has a name, and tags that no other's contain.

        Raises:
            InvalidDatasetError: If name, tags, description, type or options break a rule; names every mistake.
            DataError: If it cannot be read as what it is said to be, has too few samples, or its tags overlap.
            NoSuchLoadingPlanError: If there is no such data-loading plan.
            MissingExtraError: If the library for that type is not installed.
            AuditBrokenError: If it cannot be recorded; nothing was registered.
        """
        audit, minimum = self.home.audit(), self.home.policy().minimum_samples
        plan = self._loading(wish.loading)
        place = wish.path.expanduser()
        refuse_own(self.home, place)
        data_type = wish.data_type or (plan.data_type if plan else detected(place))
        options = {**(plan.options if plan else {}), **wish.options}
        with self._registry() as registry:
            return registry.add(
                place,
                name=wish.name,
                tags=wish.tags,
                description=wish.description,
                data_type=data_type,
                parameters=options,
                loading=_maker(plan, data_type, options),
                watched=wish.watched,
                minimum_samples=minimum,
                witness=lambda made: audit.append(self._entry(Action.DATASET_REGISTERED, made)),
            )

    def update(self, which: str, changes: Changes) -> Updated:
        """Look into a data set again and register it as it is now.

        Raises:
            NoSuchDatasetError: If there is none of that name or id.
            InvalidDatasetError: As `add` does, and if somebody else changed it meanwhile.
            DataError: As `add` does.
            MissingExtraError: As `add` does.
            AuditBrokenError: If it cannot be recorded; nothing was changed.
        """
        audit, minimum = self.home.audit(), self.home.policy().minimum_samples
        with self._registry() as registry:
            before = registry.find(which)
            refuse_own(self.home, changes.path or before.path)
            plan = self._loading(changes.loading or before.loading)
            taken = plan.options if plan and changes.loading else {}
            options = {**before.parameters, **taken, **(changes.options or {})}
            made = registry.update(
                before,
                name=changes.name,
                tags=changes.tags,
                description=changes.description,
                path=changes.path,
                parameters=options,
                loading=_maker(plan, before.data_type, options),
                watched=changes.watched,
                minimum_samples=minimum,
                witness=lambda one: audit.append(self._entry(Action.DATASET_UPDATED, one)),
            )
        return Updated(made, before)

    def remove(self, which: str) -> Dataset:
        """Forget a data set, and return it as it was; its files stay.

        Raises:
            NoSuchDatasetError: If there is none of that name or id.
            AuditBrokenError: If it cannot be recorded; nothing was removed.
        """
        audit = self.home.audit()
        with self._registry() as registry:
            dataset = registry.find(which)
            registry.remove(
                dataset.dataset_id,
                witness=lambda: audit.append(self._entry(Action.DATASET_REMOVED, dataset)),
            )
        return dataset

    def list(self) -> tuple[Dataset, ...]:
        """Return all data sets, in the order of their names."""
        with self._registry() as registry:
            return registry.list()

    def find(self, which: str) -> Dataset:
        """Return the data set with this name or id.

        Raises:
            NoSuchDatasetError: If there is none.
        """
        with self._registry() as registry:
            return registry.find(which)

    def show(self, which: str) -> Dataset:
        """Return the data set with this name or id, if its files are as they were registered.

        Raises:
            NoSuchDatasetError: If there is none.
            DataFileGoneError: If the files are gone or changed.
        """
        with self._registry() as registry:
            dataset = registry.find(which)
            registry.check(dataset)
        return dataset

    def check(self, *, thorough: bool = False) -> tuple[Checked, ...]:
        """Look at the files of every data set, and read all of them again if it is to be thorough.

        A set that the agent has seen to change, and that is as it was registered, can be used again from now on.

        Raises:
            AuditBrokenError: If that cannot be recorded; the set stays out of use.
        """
        with self._registry() as registry:
            return tuple(
                Checked(dataset, self._problem(registry, dataset, thorough=thorough))
                for dataset in registry.list()
            )

    def check_one(self, which: str, *, thorough: bool = False) -> Checked:
        """Look at the files of one data set, as `check` does.

        Raises:
            NoSuchDatasetError: If there is none of that name or id.
            AuditBrokenError: As `check` does.
        """
        with self._registry() as registry:
            dataset = registry.find(which)
            return Checked(dataset, self._problem(registry, dataset, thorough=thorough))

    def preview(self, which: str, rows: int) -> tuple[Mapping[str, JsonValue], ...]:
        """Return facts and values of the first samples of a registered set, for eyes at the node only.

        Raises:
            NoSuchDatasetError: If there is none of that name or id.
            DataError: If it cannot be read.
            AuditBrokenError: If the look cannot be recorded; nothing is shown.
        """
        return Looks(self.home, self.by).rows(Subject.of(self.find(which)), rows)

    def glimpse(
        self, path: Path, data_type: str, options: Mapping[str, JsonValue], rows: int
    ) -> tuple[Mapping[str, JsonValue], ...]:
        """Return the same of files that may not be registered.

        Raises:
            InvalidDatasetError: If an option is wrong; names every mistake.
            DataError: If they cannot be read.
            AuditBrokenError: If the look cannot be recorded; nothing is shown.
        """
        return Looks(self.home, self.by).rows(Subject(path, data_type, options), rows)

    def _loading(self, name: str | None) -> LoadingPlan | None:
        return None if name is None else Loading(self.home, self.by).find(name)

    def _problem(self, registry: Registry, dataset: Dataset, *, thorough: bool) -> DataError | None:
        try:
            registry.check(dataset, thorough=thorough)
        except DataError as error:
            return error
        if dataset.changed_at is not None:
            audit, entry = self.home.audit(), self._entry(Action.DATASET_CHECKED, dataset)
            registry.mark(dataset.dataset_id, None, witness=lambda: audit.append(entry))
        return None

    @contextmanager
    def _registry(self) -> Iterator[Registry]:
        registry = Registry(self.home.registry_path)
        try:
            yield registry
        finally:
            registry.close()

    def _entry(self, action: Action, dataset: Dataset) -> Entry:
        """Return what is recorded about a data set: its files' digest and size, and its number of samples."""
        return Entry(
            action=action,
            actor=f"person {self.by}",
            dataset_id=dataset.dataset_id,
            digest=dataset.fingerprint.sha256,
            bytes=dataset.fingerprint.size_bytes,
            count=dataset.samples,
            note=dataset.name,
        )


def _maker(plan: LoadingPlan | None, data_type: str, options: Mapping[str, JsonValue]) -> str | None:
    """Return the name of a data-loading plan, if options are what it says."""
    return plan.name if plan is not None and plan.made(data_type, options) else None
