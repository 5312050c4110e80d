"""Offer what a researcher uses: the experiment."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.errors import ExperimentBusyError, InvalidSettingsError, NotRunningError
from common.optimizers import Optimizer
from common.settings import Timeouts
from common.training_args import TrainingArgs
from common.training_plans.base import P_co
from researcher.aggregators import Aggregator
from researcher.audit import DURABLE, entry_of
from researcher.breakpoint import Breakpoint
from researcher.campaign import Campaign
from researcher.dossier import Dossier
from researcher.federation import Federation
from researcher.fitness import default_aggregator
from researcher.home import Home
from researcher.inbox import CancelRun
from researcher.monitoring import Event, Observer, TerminalView
from researcher.monitoring.broadcast import Broadcast
from researcher.monitoring.events import tell
from researcher.preparation import choose_data, require_approval
from researcher.retention import Retention
from researcher.settings import ExperimentSettings
from researcher.stopping import EarlyStopping
from researcher.strategies import AnyStrategy
from researcher.variants import Variants

log = logging.getLogger(__name__)


class Experiment(Variants[P_co]):
    """One training campaign.

    It lives in a directory: what was asked, what came of it, every model and every update. `Experiment.resume` goes on from
    there, also inside a round, after whatever happened to this process. Works in scripts, notebooks and threads; one thread
    at a time may run it, and `cancel` may be called from any.
    """

    def __init__(
        self,
        *,
        tags: Iterable[str] | str | None = None,
        nodes: Iterable[str] | str | None = None,
        training_plan_class: type[P_co] | None = None,
        training_args: Mapping[str, Any] | TrainingArgs | None = None,
        model_args: Mapping[str, Any] | None = None,
        round_limit: int | None = None,
        aggregator: Aggregator | None = None,
        agg_optimizer: Optimizer | None = None,
        node_selection_strategy: AnyStrategy | None = None,
        encoding: str = "raw",
        retention: Retention | Mapping[str, int | None] | None = None,
        early_stopping: EarlyStopping | Mapping[str, Any] | None = None,
        experimentation_folder: Path | str | None = None,
        federation: Federation | None = None,
        observers: Sequence[Observer] | None = None,
        name: str | None = None,
    ) -> None:
        """Describe an experiment; nothing is sent, and no directory is made, before it is needed.

        Args:
            tags: What the data set of each node must carry; all of them.
            nodes: Ids of the nodes to train at; none takes every node that has such a data set.
            training_plan_class: What to train and how; see `common.training_plans`.
            training_args: How long and with what; see `docs/reference/training-args.md`.
            model_args: Handed to the plan's `init_model`.
            round_limit: Number of rounds after which the experiment is finished.
            aggregator: Makes the global model out of the updates; if not given, what the plan needs, or `FedAverage()`.
            agg_optimizer: Steps the global model towards what the aggregator makes of the updates (FedOpt), an `Optimizer` of
                `common.optimizers`; if not given, what the aggregator makes is the new model.
            node_selection_strategy: Says when a round closes; `DefaultStrategy()` if not given.
            encoding: How updates are made smaller on the wire: `raw`, `fp16`, `bf16`, `int8` or `topk:0.01`, each with or
                without `+zstd`; see `docs/how-to/encodings.md`.
            retention: Of how many rounds updates and models are kept, `{"updates": 3, "models": 10}` for instance; everything if
                not given.
            early_stopping: When to stop before the round limit, `{"metric": "loss", "patience": 5}` for instance; see
                `docs/how-to/validation.md`.
            experimentation_folder: Directory of the experiment; a relative one is under `experiments` in the home.
            federation: Where to run; that of the default home if not given.
            observers: Who is told what happens; a live view if not given.
            name: What people call it; the name of the plan if not given.

        Raises:
            InvalidSettingsError: If something is missing or wrong; names all of it.
            InvalidArgumentsError: If the training arguments are wrong.
            PlanSourceError: If the plan cannot be written as text.
            PlanSettingsError: If the aggregator, or another setting, does not suit the plan.
        """
        if aggregator is None and training_plan_class is not None:
            aggregator = default_aggregator(training_plan_class)
        settings = ExperimentSettings.of(
            tags=tags,
            nodes=nodes,
            training_args=training_args,
            model_args=model_args,
            round_limit=round_limit,
            aggregator=aggregator,
            agg_optimizer=agg_optimizer,
            strategy=node_selection_strategy,
            encoding=encoding,
            retention=retention,
            early_stopping=early_stopping,
        )
        if training_plan_class is None:
            raise InvalidSettingsError(source="the experiment", problems="  training_plan_class: missing")
        dossier = Dossier.draft(settings, training_plan_class, name=name, folder=experimentation_folder)
        self._begin(dossier, federation, observers)
        given = (
            training_args
            if isinstance(training_args, TrainingArgs)
            else TrainingArgs.of(dict(training_args or {}))
        )
        self._seed_drawn = given.random_seed is None

    @classmethod
    def resume(
        cls,
        directory: Path | str,
        *,
        federation: Federation | None = None,
        training_plan_class: type[P_co] | None = None,
        aggregator: Aggregator | None = None,
        node_selection_strategy: AnyStrategy | None = None,
        observers: Sequence[Observer] | None = None,
    ) -> Self:
        """Take up an experiment where its directory says that it stands; `run` goes on, also inside a round.

        Args:
            directory: That of the experiment; it may have been moved or copied.
            federation: Where to run; that of the home around the directory, or of the default home, if not given.
            training_plan_class: The class, if its source in the directory is not to be run here.
            aggregator: Needed again if it is one of your own.
            node_selection_strategy: Needed again if it is one of your own.
            observers: Who is told what happens; a live view if not given.

        Raises:
            NoSuchExperimentError: If there is none in the directory.
            StorageError: If its ledger cannot be read.
        """
        dossier = Dossier.open(
            Path(directory),
            plan_class=training_plan_class,
            aggregator=aggregator,
            strategy=node_selection_strategy,
        )
        experiment = cls.__new__(cls)
        experiment._begin(dossier, federation, observers)  # noqa: SLF001 - of this class
        return experiment

    @classmethod
    def load(
        cls,
        directory: Path | str,
        round: int | None = None,  # noqa: A002 - the word of the field
        *,
        federation: Federation | None = None,
        training_plan_class: type[P_co] | None = None,
        aggregator: Aggregator | None = None,
        node_selection_strategy: AnyStrategy | None = None,
    ) -> Breakpoint[P_co]:
        """Look at an experiment as it was after a round, without changing anything.

        Args:
            directory: That of the experiment; another process may be running it.
            round: Number of a finished round; the last one if not given.
            federation: Where experiments that are branched from there run; as for `resume`.
            training_plan_class: The class, if its source in the directory is not to be run here.
            aggregator: Needed again if it is one of your own.
            node_selection_strategy: Needed again if it is one of your own.

        Raises:
            NoSuchExperimentError: If there is none in the directory.
            NotTrainedError: If it has finished no round.
            NoSuchRoundError: If it has not finished that one.
        """
        dossier = Dossier.open(
            Path(directory),
            plan_class=training_plan_class,
            aggregator=aggregator,
            strategy=node_selection_strategy,
        )

        def resume(folder: Path) -> Experiment[P_co]:
            return cls.resume(
                folder,
                federation=federation,
                training_plan_class=training_plan_class,
                aggregator=aggregator,
                node_selection_strategy=node_selection_strategy,
            )

        try:
            return Breakpoint(dossier, dossier.record(round), resume)
        finally:
            dossier.close()  # it opens itself again when something is read

    def _begin(
        self, dossier: Dossier, federation: Federation | None, observers: Sequence[Observer] | None
    ) -> None:
        self._dossier = dossier
        self._given_federation = federation
        self._observers: list[Observer] = list((TerminalView(),) if observers is None else observers)
        self._continues = False  # whether the run of an earlier call may go on
        self._busy = threading.Lock()
        self._campaign: Campaign | None = None
        self._broadcast: Broadcast | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, {self.round_current()} rounds, {self.folder or 'not begun'})"

    # Running

    def run(self, rounds: int | None = None, increase: bool = False) -> int:  # noqa: FBT001, FBT002 - Fed-BioMed's signature
        """Run rounds and return how many were finished.

        Args:
            rounds: How many; up to the round limit if not given, and fewer if `early_stopping` says so.
            increase: Raise the round limit if more rounds are asked for than it leaves.

        Raises:
            InvalidSettingsError: If neither `rounds` nor a round limit says when to stop.
            NoDatasetError: If no node has such a data set.
            AmbiguousDatasetError: If a node has several.
            PlanNotApprovedError: If a node would refuse the plan; names all of them.
            RoundFailedError: If a round could not be completed.
            ExperimentCancelledError: If `cancel` was called.
            KeyboardInterrupt: If Ctrl-C was pressed; the nodes were told to stop.
        """
        with self._running():
            current = self.round_current()
            limit = self.round_limit()
            if rounds is None and limit is None:
                raise InvalidSettingsError(source="run", problems="  rounds: give it, or set a round limit")
            last = current + rounds if rounds is not None else limit or current
            if limit is not None and last > limit:
                if increase:
                    self.set_round_limit(last)
                else:
                    last = limit
            stopped = self.stopped()
            if (last <= current or stopped) and not self._interrupted():
                facts = {"action": "no_round_left", "round_limit": limit, "reason": stopped}
                log.warning("no round left", extra=facts)
                return 0
            return self._run(last)

    def run_once(self, increase: bool = False) -> int:  # noqa: FBT001, FBT002 - Fed-BioMed's signature
        """Run one round; otherwise as `run`."""
        return self.run(1, increase)

    def cancel(self) -> None:
        """Stop a run that goes on in another thread; harmless if there is none. The run ends with ExperimentCancelledError."""
        campaign = self._campaign
        if campaign is not None:
            campaign.inbox.put(CancelRun())

    def abandon(self) -> None:
        """Give up the run that a process left behind: its open round becomes cancelled, and the nodes are told to stop.

        Raises:
            NotRunningError: If nothing was left behind.
            ExperimentBusyError: If it runs in another thread.
        """
        with self._running():
            if not self._dossier.begun:
                raise NotRunningError(experiment=self.name)
            self._prepare_campaign().abandon("cancelled")
            self._continues = False
            self._dossier.refresh()

    def close(self) -> None:
        """Tell the nodes that nothing more comes, and close the directory. Idempotent; results can still be read.

        A run that goes on in another thread is cancelled first.

        Raises:
            ExperimentBusyError: If it does not end in time.
        """
        self.cancel()
        if not self._busy.acquire(timeout=Timeouts().reply_s):
            raise ExperimentBusyError(experiment=self.name)
        try:
            if self._continues:
                self._prepare_campaign().end_run("closed")
                self._continues = False
            self._dossier.close()
        finally:
            self._busy.release()

    # Inside

    @property
    def _federation(self) -> Federation:
        if self._given_federation is None:
            folder = self.folder
            around = folder.parent.parent if folder is not None else None
            inside = around is not None and Home(around).kit.is_dir()
            self._given_federation = Federation.open(around if inside else None)
        return self._given_federation

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise ExperimentBusyError(experiment=self.name)
        if threading.current_thread() is threading.main_thread():
            # Importing polars puts a handler with SA_RESTART before Python's, and then Ctrl-C does not wake a thread that waits.
            signal.siginterrupt(signal.SIGINT, True)
        try:
            yield
        finally:
            self._busy.release()

    def _interrupted(self) -> bool:
        """Tell whether a process died in a round, or after the last one and before it had ended the run."""
        if not self._dossier.begun:
            return False
        finished = self.round_current() == self.round_limit() or self.stopped() is not None
        with self._dossier.reading() as ledger:
            left_over = ledger.experiment().run is not None and not self._continues
            return bool(ledger.open_rounds()) or (finished and left_over)

    def _run(self, last: int) -> int:
        self._federation.adopt(self)
        if not self._interrupted():
            self._prepare_data()
        self._campaign = campaign = self._prepare_campaign()
        try:
            with Broadcast(self._federation.home, self._dossier.row.id) as self._broadcast:
                done = campaign.run(last, new_run=not self._continues)
        finally:
            self._campaign = self._broadcast = None
            self._dossier.refresh()
            self._continues = campaign.goes_on
        return done

    def _prepare_data(self) -> None:
        """Find the data and make sure that the plan may run there, before anything is written or sent."""
        data = self._dossier.row.training_data or choose_data(self._federation, self._dossier.settings)
        require_approval(self._federation, self.plan_hash, data.keys())
        if self._dossier.row.training_data is None:
            self._dossier.choose(data)

    def _prepare_campaign(self) -> Campaign:
        federation = self._federation
        folder, ledger, store = self._dossier.begin(federation.home, federation.clock)
        return Campaign(federation, folder, ledger, store, self._dossier.settings, self._notify)

    def _notify(self, *events: Event) -> None:
        entries = [entry_of(event, self._dossier.row, self._federation.party) for event in events]
        told = [entry for entry in entries if entry is not None]
        self._federation.audit.append(*told, durable=any(entry.action in DURABLE for entry in told))
        for event in events:
            self._federation.figures.note(self._dossier.row.id, event)
            if self._broadcast is not None:
                self._broadcast.on_event(event)
        tell(self._observers, events)
