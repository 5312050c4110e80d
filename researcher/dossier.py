"""Hold everything about an experiment that outlives the process: its directory."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from common.clock import Clock
from common.errors import ExperimentExistsError, NotTrainedError, PlanSourceError
from common.ids import Digest, ExperimentId, PartyId, new_uuid
from common.messages import DatasetDescription
from common.payload.store import PayloadStore
from common.training_plans.source import load_plan, plan_hash, plan_source
from researcher.aggregators import Aggregator
from researcher.home import Home
from researcher.ledger import FILE, Ledger
from researcher.rows import ExperimentRow
from researcher.settings import ExperimentSettings
from researcher.strategies import AnyStrategy

if TYPE_CHECKING:
    from common.training_plans import TorchTrainingPlan


class Dossier:
    """The directory of an experiment, or the draft of one that has none yet.

    ledger.sqlite      what was asked and what came of it
    payloads/          models and updates, named by their SHA-256
    """

    def __init__(
        self,
        row: ExperimentRow,
        settings: ExperimentSettings,
        folder: Path | None,
        plan_class: type[TorchTrainingPlan] | None,
        ledger: Ledger | None = None,
    ) -> None:
        self.row = row
        self.settings = settings
        self._folder = folder
        self._plan_class = plan_class
        self._ledger = ledger

    @classmethod
    def draft(
        cls,
        settings: ExperimentSettings,
        plan_class: type[TorchTrainingPlan],
        *,
        name: str | None,
        folder: Path | str | None,
    ) -> Self:
        """Return the draft of a new experiment; nothing is written.

        Raises:
            PlanSourceError: If the plan cannot be written as text.
        """
        source = plan_source(plan_class)
        row = ExperimentRow(
            id=ExperimentId(new_uuid()),
            name=name or plan_class.__name__,
            created_at=0.0,
            config=settings.config(),
            plan_name=plan_class.__name__,
            plan_hash=plan_hash(source),
            plan_source=source,
        )
        return cls(row, settings, Path(folder) if folder is not None else None, plan_class)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        plan_class: type[TorchTrainingPlan] | None = None,
        aggregator: Aggregator | None = None,
        strategy: AnyStrategy | None = None,
    ) -> Self:
        """Read the directory of an experiment.

        Raises:
            NoSuchExperimentError: If there is none in it.
            StorageError: If its ledger cannot be read.
            InvalidSettingsError: If its aggregator or strategy is neither known here nor given.
        """
        with contextlib.ExitStack() as stack:
            ledger = Ledger.open(folder)
            stack.callback(ledger.close)
            row = ledger.experiment()
            settings = ExperimentSettings.from_config(row.config, aggregator=aggregator, strategy=strategy)
            stack.pop_all()
        return cls(row, settings, folder.absolute(), plan_class, ledger)

    @property
    def begun(self) -> bool:
        """Tell whether the experiment has a directory."""
        return self._ledger is not None or (self._folder is not None and (self._folder / FILE).exists())

    @property
    def folder(self) -> Path | None:
        """Return the directory, or None before there is one."""
        return self._folder if self.begun else None

    def begin(self, home: Home, clock: Clock) -> tuple[Path, Ledger, PayloadStore]:
        """Make the directory unless it is there, and return it with what is in it.

        Raises:
            ExperimentExistsError: If the directory of a new experiment is not empty.
            PlanFailedError: If the plan cannot make its first model.
        """
        if self._ledger is None and self.row.created_at:
            self._ledger = Ledger.open(self._made)
        plan = self._prepared_plan() if self.row.initial_model is None else None  # before anything is written
        if self._ledger is None:
            folder = home.experiments / (self._folder or _folder_name(self.row))
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if any(folder.iterdir()):
                raise ExperimentExistsError(path=folder)
            self.row = replace(self.row, created_at=clock.now(), config=self.settings.config())
            self._folder, self._ledger = folder, Ledger.create(folder, self.row)
        if plan is not None:
            draft = self._made / "model.draft"
            plan.export_model(draft)
            self._save(replace(self.row, initial_model=self._store().add(draft)))
        return self._made, self._ledger, self._store()

    def change(self, settings: ExperimentSettings) -> None:
        """Replace the settings."""
        self.settings = settings
        self._save(replace(self.row, config=settings.config()))

    def choose(self, data: Mapping[PartyId, DatasetDescription] | None) -> None:
        """Fix the data set of each node, or leave it to the next run to search."""
        self._save(replace(self.row, training_data=data))

    def refresh(self) -> None:
        """Read again what a run wrote."""
        if self._ledger is not None:
            self.row = self._ledger.experiment()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Ledger]:
        """Lend the ledger, open or not.

        Raises:
            NotTrainedError: If there is none yet.
        """
        if self._ledger is not None:
            yield self._ledger
        elif not self.begun:
            raise NotTrainedError(experiment=self.row.name)
        else:
            with contextlib.closing(Ledger.open(self._made)) as ledger:
                yield ledger

    def plan(self) -> TorchTrainingPlan:
        """Return the plan with the newest global model.

        Raises:
            NotTrainedError: If no round was finished.
        """
        with self.reading() as ledger:
            model = ledger.last_model()
        if model is None:
            raise NotTrainedError(experiment=self.row.name)
        plan = self._prepared_plan()
        plan.import_model(self._store().path(model[1]))
        return plan

    def export(self, path: Path) -> tuple[int, Digest]:
        """Copy the newest global model to a file, and return its round and digest.

        Raises:
            NotTrainedError: If no round was finished.
        """
        with self.reading() as ledger:
            model = ledger.last_model()
        if model is None:
            raise NotTrainedError(experiment=self.row.name)
        shutil.copyfile(self._store().path(model[1]), path)
        return model

    def check_model(self, settings: ExperimentSettings) -> None:
        """Make sure that settings lead to a model of the same shape as the one there is, if there is one.

        Raises:
            ModelMismatchError: If they do not; says where.
        """
        if self.row.initial_model is not None:
            self._prepared_plan(settings).import_model(self._store().path(self.row.initial_model))

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _save(self, row: ExperimentRow) -> None:
        self.row = row
        if self.begun:
            with self.reading() as ledger:
                ledger.save(row)

    @property
    def _made(self) -> Path:
        if self._folder is None:
            raise NotTrainedError(experiment=self.row.name)
        return self._folder

    def _store(self) -> PayloadStore:
        return PayloadStore(self._made / "payloads")

    def _prepared_plan(self, settings: ExperimentSettings | None = None) -> TorchTrainingPlan:
        settings = settings or self.settings
        if self._plan_class is None:
            self._plan_class = _loaded(self.row)
        plan = self._plan_class()
        plan.prepare(model_args=settings.model_args, training_args=settings.training_args)
        return plan


def _loaded(row: ExperimentRow) -> type[TorchTrainingPlan]:
    """Return the class that the source in the ledger defines."""
    from common.training_plans import TorchTrainingPlan

    plan = load_plan(row.plan_source, row.plan_name, row.plan_hash)
    if not issubclass(plan, TorchTrainingPlan):
        raise PlanSourceError(plan=row.plan_name, reason="it is no TorchTrainingPlan")
    return plan


def _folder_name(row: ExperimentRow) -> str:
    """Return a name that a person recognises and nothing else has."""
    slug = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")[:40] or "experiment"
    return f"{slug}-{row.id[-6:]}"
