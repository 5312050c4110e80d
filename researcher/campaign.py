"""Run the rounds of an experiment one after the other, from wherever its ledger says that it stands."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import Empty
from typing import Literal

from common import metrics
from common.errors import (
    ExperimentCancelledError,
    NotRunningError,
    RoundFailedError,
    TransportError,
    WarrenError,
)
from common.ids import RunId, new_uuid
from common.mailbox import Mail
from common.messages import RunEnd
from common.sqlite import storage_errors
from researcher.agenda import Agenda
from researcher.contributions import AGGREGATOR, OPTIMIZER
from researcher.control import Control
from researcher.driver import RoundDriver
from researcher.federation import Federation
from researcher.flow import AsyncMachine
from researcher.history import Kind, RoundRecord
from researcher.holdings import Holdings
from researcher.inbox import CancelRun, Inbox
from researcher.intake import account_stray
from researcher.ledger import Ledger
from researcher.measurement import ROUND, measured
from researcher.memory import Memory
from researcher.monitoring.events import Notify, RunEnded, RunStarted, StoppedEarly
from researcher.order import Desk, RoundOrder
from researcher.parcels import Parcels
from researcher.round import RoundState
from researcher.rows import ExperimentRow
from researcher.settings import ExperimentSettings
from researcher.step_driver import StepDriver
from researcher.strategies import AsyncStrategy

log = logging.getLogger(__name__)

Patience = Literal["stop_s", "reconnect_max_s"]
"""Which of the time limits holds for a last message."""


class Campaign:
    """The rounds of one experiment, run in the calling thread.

    A run is an incarnation of the experiment at the nodes. It goes on from call to call as long as nothing of it was left
    behind; after a failure, a cancellation or the end of the experiment the next round belongs to a new run, so that no
    stale work can reach it. A round that is open in the ledger is gone on with inside its run.
    """

    def __init__(
        self,
        federation: Federation,
        folder: Path,
        ledger: Ledger,
        store: Holdings,
        settings: ExperimentSettings,
        notify: Notify,
    ) -> None:
        self.inbox = Inbox()
        self._federation = federation
        self._ledger = ledger
        self._settings = settings
        self._row = ledger.experiment()
        self._driver: RoundDriver | None = None
        self._ended = False
        rule, average = settings.early_stopping, settings.training_args.average
        self._stopping = None if rule is None else rule.watch(ledger.rounds(), average)
        self._desk = Desk(
            hub=federation.hub,
            inbox=self.inbox,
            ledger=ledger,
            store=store,
            parcels=Parcels(store, folder / "parcels"),
            folder=folder,
            clock=federation.clock,
            reply_s=federation.timeouts.reply_s,
            progress_s=federation.timeouts.progress_s,
            notify=notify,
        )
        self._agenda = Agenda(self._desk, settings)

    @property
    def round_current(self) -> int:
        """Return the number of rounds that were closed."""
        last = self._ledger.last_model()
        return last[0] if last else 0

    @property
    def goes_on(self) -> bool:
        """Tell whether the next round may belong to the same run."""
        return self._row.run is not None and not self._ended

    def run(self, last: int, *, new_run: bool) -> int:
        """Run rounds until the one with the number `last` is closed, and return how many were closed.

        Args:
            last: Number of the last round.
            new_run: Whether to begin a new run unless a round is open.

        Raises:
            NoNodesError: If the strategy chooses no node for a round.
            RoundFailedError: If the strategy gives a round up.
            ExperimentCancelledError: If a `CancelRun` came.
        """
        started, before, error = self._desk.clock.monotonic(), self.round_current, ""
        self._desk.hub.attach(self._row.id, self.inbox)
        control = Control(self._federation.home, self._row.id, lambda: self.inbox.put(CancelRun()))
        try:
            with storage_errors(self._desk.folder):
                self._run(last, new_run=new_run)
        except KeyboardInterrupt:
            error = "interrupted"
            self._interrupt()
            raise
        except (RoundFailedError, ExperimentCancelledError) as caught:
            error = str(caught)
            self.end_run(error)
            raise
        except WarrenError as caught:
            error = str(caught)
            raise
        finally:
            self._desk.hub.detach(self._row.id)
            self._drain()
            control.close()
            total_s = self._desk.clock.monotonic() - started
            self._desk.notify(RunEnded(self.round_current - before, error or None, total_s))
        return self.round_current - before

    def end_run(self, reason: str, *, patience: Patience = "stop_s") -> None:
        """Free the workers of the run; nothing of it is asked for any more.

        The experiment keeps its run while a round is open, and if the broker does not take the message in time: a resumed
        experiment then tells the nodes.
        """
        run, data = self._row.run, self._row.training_data
        if run is None or data is None or self._ledger.open_rounds():
            return
        self._ended = True
        hub = self._desk.hub
        members = {member.party for member in hub.roster.active("node")}
        nodes = tuple(node for node in data if node in members)
        told = not nodes
        if nodes:
            ended = RunEnd(
                sender=hub.party,
                recipients=nodes,
                experiment_id=self._row.id,
                run_id=run,
                reason=reason[:2000],
            )
            told = self._flush(hub.send(ended), patience)
        with self._ledger.together():
            self._ledger.cancel_tasks(run, self._desk.clock.now())
            if told:
                self._save(replace(self._row, run=None))

    def abandon(self, reason: str) -> None:
        """Give up what a process left behind: cancel a round that is open, and free the workers of the run.

        Raises:
            NotRunningError: If nothing was left behind.
        """
        open_rounds = self._ledger.open_rounds()
        if self._row.run is None and not open_rounds:
            raise NotRunningError(experiment=self._row.name)
        for record in open_rounds:
            self._ledger.end_round(
                record.run, record.round, RoundState.CANCELLED, self._desk.clock.now(), reason=reason
            )
        self.end_run(reason)

    def _run(self, last: int, *, new_run: bool) -> None:
        open_rounds = self._ledger.open_rounds()
        if not open_rounds and (new_run or not self._row.run):
            self._save(replace(self._row, run=RunId(new_uuid())))
        run = self._row.run
        if run is None:
            raise RuntimeError("a round is open and has no run")
        nodes = tuple(sorted(self._row.training_data or ()))
        first = open_rounds[0].round if open_rounds else self.round_current + 1
        self._desk.notify(RunStarted(self._row.id, self._row.name, run, nodes, first, max(first, last)))
        validated = False
        for record in open_rounds:
            self._go_on(record, last)
            validated = record.kind == "validate"
        self._measure()
        while not validated and (done := self.round_current) < last and not self._stops():
            self._carry_out(self._agenda.new(self._row, done + 1, "train"), last)
        self._explain()
        if self._settings.training_args.test_on_global_updates and not validated:
            self._validate()
            validated = True
        limit = self._settings.round_limit
        asynchronous = isinstance(self._settings.strategy, AsyncStrategy)
        finished = self._stops() or (limit is not None and self.round_current >= limit)
        if validated or asynchronous or finished:
            # A broker that restarts just now is waited for: nobody may ever resume what is finished.
            self.end_run("finished", patience="reconnect_max_s")

    def _go_on(self, record: RoundRecord, last: int) -> None:
        """Finish a round that was open when its process died."""
        self._carry_out(self._agenda.again(self._row, record), max(last, record.round), record)

    def _carry_out(self, order: RoundOrder, last: int, record: RoundRecord | None = None) -> None:
        """Run a round, or all steps of an asynchronous run until the one with the number `last` is closed."""
        if isinstance(order.strategy, AsyncStrategy):
            self._flow(order, order.strategy, last, record)
        else:
            self._drive(order, record)

    def _validate(self) -> None:
        """Let the nodes validate the last model; training has succeeded whatever becomes of this."""
        try:
            self._drive(self._next("validate"))
        except RoundFailedError as error:
            log.warning("last validation failed", extra={"action": "validation_failed", "error": str(error)})

    def _measure(self) -> None:
        """Let all nodes tell the moments of their columns, once, before the first round that uses them."""
        if self._settings.training_args.moments == "node" or self._row.moments is not None:
            return
        found = measured(self._ledger)
        if found is None:
            self._drive(self._agenda.new(self._row, ROUND, "measure"))
            found = measured(self._ledger)
        self._save(replace(self._row, moments=found))

    def _look(self) -> None:
        """Let early stopping see the round that was closed last."""
        if self._stopping is None:
            return
        record = self._ledger.closed_round(self.round_current)
        if record is not None:
            self._stopping = self._stopping.after(record)

    def _stops(self) -> bool:
        return self._stopping is not None and self._stopping.reason is not None

    def _explain(self) -> None:
        """Note and tell why no further round is run, once."""
        record = self._ledger.closed_round(self.round_current)
        reason = self._stopping.reason if self._stopping is not None else None
        if record is not None and reason is not None and record.reason != reason:
            self._ledger.explain(record.run, record.round, reason)
            self._desk.notify(StoppedEarly(record.round, reason))

    def _drive(self, order: RoundOrder, record: RoundRecord | None = None) -> None:
        self._driver = RoundDriver(self._desk, order, record)
        self._driver.run()
        self._driver = None
        if order.kind == "train":
            self._look()
        self._retain()

    def _next(self, kind: Kind) -> RoundOrder:
        return self._agenda.new(self._row, self.round_current + 1, kind)

    def _flow(
        self, order: RoundOrder, strategy: AsyncStrategy, last: int, record: RoundRecord | None
    ) -> None:
        """Run the steps of an asynchronous run until the one with the number `last` is closed."""
        if record is None:
            machine = AsyncMachine(order.round, order.run, order.nodes, strategy)
            driver = StepDriver(self._desk, order, machine)
        else:
            machine = AsyncMachine.restored(
                *(order.round, order.run, order.nodes, strategy),
                tasks=self._ledger.tasks_of_run(order.run),
                counted=self._ledger.counted_tasks(order.run, order.round),
            )
            earlier = {
                number: self._agenda.again(self._row, self._ledger.rounds(order.run, number)[0])
                for number in machine.rounds - {order.round}
            }
            driver = StepDriver(self._desk, order, machine, record, earlier)
        while True:
            self._driver = driver
            driver.run()
            self._look()
            self._retain()
            if self.round_current >= last or self._stops():
                break
            driver = driver.next(self._next("train"))
        driver.finish()
        self._driver = None

    def _retain(self) -> None:
        memories = (Memory(self._desk.folder / name) for name in (OPTIMIZER, AGGREGATOR))
        self._settings.retention.apply(self._ledger, self._desk.store, memories)

    def _interrupt(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
        self.end_run("interrupted")

    def _drain(self) -> None:
        """Account for answers that nobody waits for any more; those of a round that is still open stay with the broker."""
        if self._ledger.open_rounds():
            return
        while True:
            try:
                item = self.inbox.get_nowait()
            except Empty:
                return
            if isinstance(item, Mail):
                account_stray(self._desk, item)
                item.ack()

    def _save(self, row: ExperimentRow) -> None:
        if row != self._row:
            self._ledger.save(row)
            self._row = row

    def _flush(self, sent: Future[None], patience: Patience) -> bool:
        """Wait a moment for the broker, as the program may end next, and tell whether it has the message."""
        try:
            sent.result(getattr(self._federation.timeouts, patience))
        except TimeoutError:
            metrics.TIMEOUTS.labels(timeout=patience).inc()
            log.warning("end of run not confirmed in time", extra={"action": "send_failed"})
            return False
        except TransportError as error:
            log.warning("end of run not sent", extra={"action": "send_failed", "error": str(error)})
            return False
        return True
