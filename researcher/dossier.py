"""Hold everything about an experiment that outlives the process: its directory."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from common.clock import Clock
from common.errors import (
    ExperimentExistsError,
    InvalidSettingsError,
    NoSuchRoundError,
    NotTrainedError,
    PayloadMissingError,
    RoundNotKeptError,
)
from common.ids import Digest, ExperimentId, PartyId, new_uuid
from common.messages import DatasetDescription
from common.optimizers import optimizer_of
from common.training_plans.source import load_plan, plan_hash, plan_source
from researcher.aggregators import Aggregator, aggregator_of
from researcher.contributions import OPTIMIZER, aggregate
from researcher.drift import Drift, DriftGauge
from researcher.fitness import check_fitness, check_recorded
from researcher.history import RoundRecord
from researcher.holdings import Holdings
from researcher.home import Home
from researcher.ledger import FILE, Ledger
from researcher.memory import Memory
from researcher.parcels import Parcels
from researcher.rows import ExperimentRow
from researcher.settings import ExperimentSettings
from researcher.strategies import AnyStrategy, strategy_of

if TYPE_CHECKING:
    from common.training_plans import TrainingPlan

T = TypeVar("T")

_SEEDING: Final = threading.Lock()
"""Keeps a plan that draws its first weights apart from those of other threads: the generators that it seeds are global."""


class Dossier:
    """The directory of an experiment, or the draft of one that has none yet.

    ledger.sqlite      what was asked and what came of it, with small models and updates
    payloads/          other models and updates, named by their SHA-256
    """

    def __init__(
        self,
        row: ExperimentRow,
        settings: ExperimentSettings,
        folder: Path | None,
        plan_class: type[TrainingPlan] | None,
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
        plan_class: type[TrainingPlan],
        *,
        name: str | None,
        folder: Path | str | None,
    ) -> Self:
        """Return the draft of a new experiment; nothing is written.

        Raises:
            PlanSourceError: If the plan cannot be written as text.
            PlanSettingsError: If the settings do not suit the plan.
        """
        source = plan_source(plan_class)
        check_fitness(plan_class, settings)
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
        plan_class: type[TrainingPlan] | None = None,
        aggregator: Aggregator | None = None,
        strategy: AnyStrategy | None = None,
    ) -> Self:
        """Read the directory of an experiment.

        Raises:
            NoSuchExperimentError: If there is none in it.
            StorageError: If its ledger cannot be read.
            InvalidSettingsError: If its aggregator or strategy is neither known here nor given.
            PlanSettingsError: If the aggregator that is given cannot take the place of the recorded one.
        """
        with contextlib.ExitStack() as stack:
            ledger = Ledger.open(folder)
            stack.callback(ledger.close)
            row = ledger.experiment()
            settings = ExperimentSettings.from_config(row.config, aggregator=aggregator, strategy=strategy)
            check_recorded(row.plan_name, row.config["aggregator"]["name"], settings.aggregator)
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

    def begin(self, home: Home, clock: Clock) -> tuple[Path, Ledger, Holdings]:
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
            self._folder, self._ledger = folder, Ledger.create(folder)
            self._ledger.save(self.row)
        store = Holdings(self._ledger, self._made)
        if plan is not None:
            draft = self._made / "model.draft"
            plan.export_model(draft)
            with store.together():
                self._save(replace(self.row, initial_model=store.add(draft)))
        return self._made, self._ledger, store

    def change(self, settings: ExperimentSettings) -> None:
        """Replace the settings.

        Raises:
            PlanSettingsError: If they do not suit the plan.
        """
        check_fitness(self.plan_class, settings)
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

    def record(self, round_: int | None = None) -> RoundRecord:
        """Return a finished round, the last one if none is named.

        Raises:
            NotTrainedError: If no round was finished.
            NoSuchRoundError: If that one was not.
        """
        with self.reading() as ledger:
            last = ledger.last_model()
            if last is None:
                raise NotTrainedError(experiment=self.row.name)
            record = ledger.closed_round(last[0] if round_ is None else round_)
        if record is None:
            raise NoSuchRoundError(experiment=self.row.name, round=round_, finished=last[0])
        return record

    def model_of(self, round_: int | None = None) -> tuple[int, Digest]:
        """Return number and model of a finished round; otherwise as `record`."""
        record = self.record(round_)
        if record.model is None:
            raise NoSuchRoundError(experiment=self.row.name, round=record.round, finished="others")
        return record.round, record.model

    def plan(self, round_: int | None = None) -> TrainingPlan:
        """Return the plan with the global model of a round, the last one if none is named.

        Raises:
            NotTrainedError: If no round was finished.
            NoSuchRoundError: If that one was not.
            RoundNotKeptError: If its model is not kept any more.
        """
        with self._model_file(*self.model_of(round_)) as path:
            plan = self._prepared_plan()
            plan.import_model(path)
        return plan

    def export(self, path: Path, round_: int | None = None) -> tuple[int, Digest]:
        """Copy the global model of a round to a file, and return its round and digest; raises as `plan`."""
        model = self.model_of(round_)
        with self._model_file(*model) as source:
            shutil.copyfile(source, path)
        return model

    def branch(self, folder: Path, round_: int, name: str | None) -> Path:
        """Make the directory of another experiment that begins with the model of a round, and return it.

        Raises:
            ExperimentExistsError: If the directory is not empty.
            RoundNotKeptError: If the model is not kept any more.
        """
        number, model = self.model_of(round_)
        target = self._made.parent / folder
        draft = target / "model.draft"
        with self._model_file(number, model) as source:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            if any(target.iterdir()):
                raise ExperimentExistsError(path=target)
            shutil.copyfile(source, draft)
        known = Memory(self._made / OPTIMIZER).after(round_)
        if known.exists():
            memory = Memory(target / OPTIMIZER)
            memory.folder.mkdir(mode=0o700)
            shutil.copyfile(known, memory.after(0))
        row = replace(
            self.row,
            id=ExperimentId(new_uuid()),
            name=name or self.row.name,
            created_at=time.time(),
            run=None,
            training_data=None,
            initial_model=model,
            parent={"experiment": self.row.id, "round": round_, "model": model},
        )
        with contextlib.closing(Ledger.create(target)) as ledger:
            store = Holdings(ledger, target)
            with store.together():
                store.add(draft)
                ledger.save(row)
        return target

    def aggregate(
        self, record: RoundRecord, scratch: Path, without: Collection[str]
    ) -> tuple[Path, tuple[PartyId, ...], Digest]:
        """Make the model of a round again in a folder; return its file, the nodes that were used, and its digest.

        Raises:
            InvalidSettingsError: If a node that is to be left out sent no update, or the aggregator is not known here.
            NoNodesError: If no update is left.
            RoundNotKeptError: If a file is not kept any more.
        """
        draft = scratch / "model.draft"
        with self.reading() as ledger:
            store = Holdings(ledger, self._made)
            strangers = set(without) - {one.node for one in ledger.counted(record.run, record.round)}
            if strangers:
                problems = [f"  {node}: no update of it counts in round {record.round}" for node in strangers]
                raise InvalidSettingsError(source="without", problems="\n".join(sorted(problems)))
            nodes = aggregate(
                ledger,
                store,
                Parcels(store, scratch / "parcels"),
                record,
                aggregator=_as_recorded(aggregator_of, record.aggregator, self.settings.aggregator),
                strategy=_as_recorded(strategy_of, record.strategy, self.settings.strategy),
                target=draft,
                agg_optimizer=optimizer_of(record.agg_optimizer),
                folder=self._made,
                remember=scratch,
                without={PartyId(node) for node in without},
            )
        with draft.open("rb") as file:
            return draft, nodes, Digest(hashlib.file_digest(file, "sha256").hexdigest())

    def drift(self, record: RoundRecord, scratch: Path) -> list[Drift]:
        """Return how each node moved the model in a round that was closed.

        Raises:
            RoundNotKeptError: If a file is not kept any more.
        """
        gauge = DriftGauge(record.round)
        with self.reading() as ledger:
            store = Holdings(ledger, self._made)
            aggregate(
                ledger,
                store,
                Parcels(store, scratch / "parcels"),
                record,
                aggregator=gauge,
                strategy=_as_recorded(strategy_of, record.strategy, self.settings.strategy),
                target=scratch / "nothing",
                folder=self._made,
            )
        return gauge.drifts

    @property
    def plan_class(self) -> type[TrainingPlan]:
        """Return the class of the plan; if nobody gave it, the one that the source in the ledger defines."""
        if self._plan_class is None:
            self._plan_class = load_plan(self.row.plan_source, self.row.plan_name, self.row.plan_hash)
        return self._plan_class

    def check_model(self, settings: ExperimentSettings) -> None:
        """Make sure that settings lead to a model of the same shape as the one there is, if there is one.

        Raises:
            ModelMismatchError: If they do not; says where.
        """
        if self.row.initial_model is not None:
            with self._model_file(0, self.row.initial_model) as path:
                self._prepared_plan(settings).import_model(path)

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

    @contextlib.contextmanager
    def _model_file(self, round_: int, digest: Digest) -> Iterator[Path]:
        """Lend the model of a round as a file."""
        with contextlib.ExitStack() as stack:
            store = Holdings(stack.enter_context(self.reading()), self._made)
            try:
                path = stack.enter_context(store.file(digest))
            except PayloadMissingError as error:
                raise RoundNotKeptError(round=round_, reason="its model was removed") from error
            yield path

    def _prepared_plan(self, settings: ExperimentSettings | None = None) -> TrainingPlan:
        settings = settings or self.settings
        plan = self.plan_class()
        with _SEEDING:
            plan.prepare(model_args=settings.model_args, training_args=settings.training_args)
        return plan


def _as_recorded(build: Callable[[dict[str, Any]], T], config: Mapping[str, Any], current: T) -> T:
    """Return what a configuration describes; the present object stands for one of somebody's own class."""
    try:
        return build(dict(config))
    except InvalidSettingsError:
        if config.get("name") != type(current).__name__:
            raise
        return current


def _folder_name(row: ExperimentRow) -> str:
    """Return a name that a person recognises and nothing else has."""
    slug = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")[:40] or "experiment"
    return f"{slug}-{row.id[-6:]}"
