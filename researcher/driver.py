"""Run one round: perform what its machine decides, and tell the machine what happened."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from math import inf
from queue import Empty
from typing import ClassVar, Final

from common import metrics
from common.errors import (
    ExperimentCancelledError,
    NodeSilentError,
    RoundFailedError,
    UnknownPartyError,
    UnroutableError,
    WarrenError,
)
from common.ids import Digest, TaskId
from common.mailbox import Mail
from common.messages import TaskFailed, TaskProgress, TrainReply
from researcher import round as rounds
from researcher.contributions import aggregate
from researcher.courier import Courier
from researcher.directory import NodeChange
from researcher.flow import AsyncMachine
from researcher.history import RoundRecord, mean_loss
from researcher.inbox import CancelRun, DiskFailed, Item, PayloadDamaged, PayloadWhole, SendFailed
from researcher.intake import Intake
from researcher.monitoring.events import NodeChanged, NodeProgress, RoundEnded, RoundOpened, TaskLost
from researcher.order import Desk, RoundOrder
from researcher.patience import Patience
from researcher.round import CancelTask, CloseRound, Effect, FailRound, RoundMachine, RoundState, SendTask
from researcher.rows import TaskRow, event_of
from researcher.stopwatch import Stopwatch
from researcher.strategies import AsyncStrategy

log = logging.getLogger(__name__)

_GATHER_S: Final = 0.02
"""How long an answer waits for others, so that one commit takes them all; a decision of the machine ends the wait."""
_ARRIVING: Final = 2
"""An update counts as arriving for so many `reply_s` after its last bytes: one to ask again for what is lost, one to get it."""


class RoundDriver:
    """One round in the calling thread: it sleeps until something comes into the inbox or the deadline is there.

    Whatever is told to the machine is in the ledger before any order of the machine is performed and before the broker is
    acknowledged. So the process may die at any moment, and `resume` goes on from the ledger.
    """

    _gathers: ClassVar[bool] = True
    _ended: RoundRecord

    def __init__(self, desk: Desk, order: RoundOrder, record: RoundRecord | None = None) -> None:
        """Make the driver of a new round, or of one that the ledger knows as open (`record`)."""
        self._desk = desk
        self._order = order
        self._resumed = record is not None
        self._opened_at = record.opened_at if record else desk.clock.now()
        self._machine = self._make_machine()
        self._record = record or order.record(self._opened_at, self._machine.deadline)
        self._patience = Patience(desk.progress_s)
        self._intake = self._make_intake()
        self._tasks: dict[TaskId, SendTask] = {}
        self._watch = Stopwatch(desk.clock.monotonic())
        self._courier = Courier(desk, order, resumed=self._resumed, taken=self._note_broadcast)
        self._model: Digest | None = None

    def _make_machine(self) -> RoundMachine | AsyncMachine:
        order = self._order
        if isinstance(order.strategy, AsyncStrategy):
            raise TypeError("a round is not asynchronous")
        return RoundMachine(
            order.round,
            order.run,
            order.nodes,
            order.strategy,
            self._opened_at,
            reserve=order.reserve,
            sampled=order.sampled,
        )

    def _make_intake(self) -> Intake:
        return Intake(self._desk, self._order, self._machine, self._opened_at)

    def run(self) -> Digest | None:
        """Run the round to its end and return the new global model, or None after a validation.

        Raises:
            RoundFailedError: If the strategy gives the round up; the ledger says why.
            ExperimentCancelledError: If somebody cancelled it.
        """
        effects = self._resume() if self._resumed else self._open()
        for node, status in self._desk.hub.statuses().items():
            if status.online is False:
                effects += self._machine.handle(rounds.NodeOffline(node, self._desk.clock.now()))
        self._commit(effects)
        self._perform(effects)
        while self._machine.state is RoundState.OPEN:
            self._step()
        return self._model

    def cancel(self) -> None:
        """End the round and tell the nodes, without raising."""
        self._intake.commit()
        effects = self._machine.handle(rounds.CancelAsked(self._desk.clock.now()))
        with contextlib.suppress(ExperimentCancelledError):  # which is what was asked for
            self._perform(effects)

    # Beginning

    def _open(self) -> list[Effect]:
        effects = self._machine.start()
        sent = [effect for effect in effects if isinstance(effect, SendTask)]
        updates = self._order.training_args.stream_batches
        self._desk.ledger.open_round(self._record, [self._row(task) for task in sent], updates=updates)
        for task in sent:
            self._know(task)
        self._announce()
        return effects

    def _resume(self) -> list[Effect]:
        """Tell the machine what the ledger knows, and return what is still to do."""
        effects = self._machine.start()
        for task in self._desk.ledger.tasks(self._order.run, self._order.round):
            effects += self._tell(event_of(task, self._desk.clock.now()))
            self._know(SendTask(task.node, task.id, task.attempt))
        waiting = self._machine.waiting
        # What answered meanwhile waits at the broker: give it the time to come before the deadline counts.
        self._grant(self._desk.clock.now() + self._desk.reply_s)
        self._announce()
        return [
            effect
            for effect in effects
            if not isinstance(effect, SendTask) or waiting.get(effect.node) == effect.task_id
        ]

    def _announce(self) -> None:
        nodes = tuple(sorted(self._order.nodes))
        self._desk.notify(
            RoundOpened(self._order.round, self._order.kind, nodes, self._opened_at, self._resumed)
        )

    # Going on

    def _step(self) -> None:
        """Take what came, then commit and act on it; answers may wait a moment for others to be committed with them."""
        items = self._next()
        effects = [effect for item in items for effect in self._take(item)]
        if not items:
            effects += self._time_passed()
        if (effects or not items) and not self._concludes(effects):
            self._commit(effects)
        self._perform(effects)

    def _commit(self, effects: Sequence[Effect]) -> None:
        """Bring what was taken in to disk, and with it the tasks that the machine added."""
        added = [
            effect for effect in effects if isinstance(effect, SendTask) and effect.task_id not in self._tasks
        ]
        dropped = [effect.task_id for effect in effects if isinstance(effect, CancelTask)]
        settle = partial(self._desk.ledger.settle_task, state="cancelled", at=self._desk.clock.now())
        self._intake.commit(
            *(partial(self._desk.ledger.add_task, self._row(task)) for task in added),
            *(partial(settle, task) for task in dropped),
        )
        for task in added:
            self._know(task)

    def _concludes(self, effects: Sequence[Effect]) -> bool:
        """Tell whether a model is made now, and so soon that what was taken in is committed together with it."""
        return self._small and any(isinstance(effect, CloseRound) for effect in effects)

    @property
    def _small(self) -> bool:
        return self._order.kind == "train" and isinstance(self._desk.store.content(self._order.base), bytes)

    def _time_passed(self) -> list[Effect]:
        """Count tasks that hang as failed, and the deadline as passed unless an update is just arriving."""
        machine, monotonic = self._machine, self._desk.clock.monotonic()
        effects: list[Effect] = []
        for task in self._patience.hung(machine.expected, monotonic):
            metrics.TIMEOUTS.labels(timeout="progress_s").inc()
            node = self._tasks[task].node
            error = NodeSilentError(node=node, silent_s=round(self._patience.limit_s))
            reason = f"{error.code}: {error.public_text}"
            effects.append(CancelTask(node, task))
            effects += self._lost(self._intake.fail(task, reason, code=error.code, final=False))
        if machine.deadline is not None:
            last = max(map(self._desk.hub.last_chunk, machine.waiting), default=-inf)
            if (left := last + _ARRIVING * self._desk.reply_s - monotonic) > 0:
                self._grant(self._desk.clock.now() + left)
        return effects + machine.handle(rounds.DeadlinePassed(self._desk.clock.now()))

    def _grant(self, until: float) -> None:
        """Move the deadline if there is one, and let whoever asks how the round stands know."""
        self._machine.grant(until)
        self._desk.ledger.extend_deadline(self._order.run, self._order.round, self._machine.deadline)

    def _next(self) -> list[Item]:
        """Return everything that is in the inbox; wait for the first until the deadline or the time to commit."""
        limits = [_GATHER_S] if self._intake.pending else []
        if self._machine.deadline is not None:
            limits.append(max(0.0, self._machine.deadline - self._desk.clock.now()))
        monotonic = self._desk.clock.monotonic()
        if (silent_at := self._patience.due(self._machine.expected, monotonic)) is not None:
            limits.append(max(0.0, silent_at - monotonic))
        timeout = min(limits, default=None)
        items: list[Item] = []
        try:
            items.append(self._desk.inbox.get(timeout=timeout))
            while self._gathers:
                items.append(self._desk.inbox.get_nowait())
        except Empty:
            pass
        return items

    def _take(self, item: Item) -> list[Effect]:
        """Account for one item and return what the machine makes of it."""
        now = self._desk.clock.now()
        match item:
            case Mail(message=TrainReply() as reply):
                return self._tell(self._intake.reply(item, reply))
            case Mail(message=TaskFailed() as message):
                return self._lost(self._intake.failure(item, message))
            case Mail(
                message=TaskProgress(sender=node, task_id=task, round=round_, state=state, losses=losses)
            ):
                if self._machine.waiting.get(node) == task:
                    self._patience.heard(task, self._desk.clock.monotonic())
                self._desk.notify(NodeProgress(round_, node, state, losses))
                return []
            case Mail(message=message):
                log.warning("unexpected message", extra={"action": "unexpected", "kind": message.kind})
                item.reject()
                return []
            case PayloadWhole(sha256):
                return [effect for event in self._intake.payload(sha256) for effect in self._tell(event)]
            case PayloadDamaged(sha256):
                return [effect for event in self._intake.damaged(sha256) for effect in self._tell(event)]
            case NodeChange(node, online, at):
                self._desk.notify(NodeChanged(node, online, at))
                if online and node in self._machine.waiting:
                    self._patience.heard(self._machine.waiting[node], self._desk.clock.monotonic())
                return self._machine.handle(
                    rounds.NodeOnline(node, at) if online else rounds.NodeOffline(node, at)
                )
            case SendFailed(tasks, error):
                return self._not_sent(tasks, error)
            case DiskFailed(error):
                raise error
            case CancelRun():
                return self._machine.handle(rounds.CancelAsked(now))

    def _not_sent(self, tasks: tuple[TaskId, ...], error: WarrenError) -> list[Effect]:
        """Find out for which nodes a request was not taken, then count that as a failure of theirs."""
        log.warning("request not taken", extra={"action": "send_failed", "error": str(error)})
        tasks = tuple(task for task in tasks if task in self._tasks)  # others are of a round that has ended
        if len(tasks) > 1:
            for task in tasks:
                self._send([self._tasks[task]])
            return []
        if not tasks or not self._machine.admits(task := tasks[0]):
            return []
        final = isinstance(error, UnroutableError | UnknownPartyError)
        reason = f"{error.code}: {error.public_text}"
        return self._lost(self._intake.fail(task, reason, code=error.code, final=final))

    def _tell(self, event: rounds.Event | None) -> list[Effect]:
        return [] if event is None else self._machine.handle(event)

    def _lost(self, event: rounds.TaskFailed | None) -> list[Effect]:
        effects = self._tell(event)
        if event is not None:
            retried = any(isinstance(effect, SendTask) for effect in effects)
            lost = TaskLost(self._order.round, self._tasks[event.task_id].node, event.reason, retried)
            self._intake.tell(lost)
        return effects

    # What the machine orders

    def _perform(self, effects: Iterable[Effect]) -> None:
        tasks, cancelled = [], []
        for effect in effects:
            match effect:
                case SendTask():
                    tasks.append(effect)
                case CancelTask():
                    cancelled.append(effect)
                case CloseRound() | FailRound():
                    self._courier.cancel(cancelled)
                    cancelled = []
                    self._end(effect)
        self._courier.cancel(cancelled)
        if tasks:
            self._send(tasks)

    def _send(self, tasks: Sequence[SendTask]) -> None:
        for task in tasks:
            self._patience.heard(task.task_id, self._desk.clock.monotonic())
        self._courier.send(tasks, self._machine.deadline)

    def _note_broadcast(self) -> None:
        """Note, on a thread of the transport, when the broker first had a request."""
        self._watch.timings.setdefault("broadcast_s", self._desk.clock.monotonic() - self._watch.opened)

    def _end(self, effect: CloseRound | FailRound) -> None:
        desk, order = self._desk, self._order
        self._watch.lap("collect_s", desk.clock.monotonic())
        if not self._goes_on:
            self._intake.close()
        if isinstance(effect, CloseRound) and order.kind == "train" and not self._small:
            self._model = self._aggregate()
        try:
            self._intake.commit(partial(self._conclude, effect))
        except Exception:
            self._intake.commit()  # what nodes sent is right, whatever cannot be made of it
            raise
        self._clear()
        record = self._ended
        log.info(
            "round ended",
            extra={
                "action": "round_ended",
                "experiment": order.experiment,
                "round": order.round,
                "kind": order.kind,
                "state": record.state,
                "nodes": Counter(node.outcome for node in record.nodes.values()),
                "loss": mean_loss(record),
                "update_bytes": sum(node.update_bytes for node in record.nodes.values()),
                "duration_s": record.duration_s,
            },
        )
        if isinstance(effect, FailRound):
            if effect.cancelled:
                raise ExperimentCancelledError(experiment=order.experiment, round=order.round)
            raise RoundFailedError(round=order.round, reason=effect.reason)

    def _conclude(self, effect: CloseRound | FailRound) -> RoundEnded:
        """Write the end of the round, and make its model first if that is not done yet."""
        ledger, order = self._desk.ledger, self._order
        if isinstance(effect, CloseRound) and order.kind == "train" and self._model is None:
            self._model = self._aggregate()
        ledger.end_round(
            order.run,
            order.round,
            self._machine.state,
            self._desk.clock.now(),
            model=self._model,
            reason=effect.reason if isinstance(effect, FailRound) else None,
            timings=self._watch.timings,
            cancel=not self._goes_on,
        )
        self._ended = ledger.rounds(order.run, order.round)[0]
        return RoundEnded(self._ended)

    @property
    def _goes_on(self) -> bool:
        """Tell whether what is out at the end of this round is wanted in the next one."""
        return False

    def _clear(self) -> None:
        """Offer nothing more of this round."""
        self._courier.end()
        self._desk.parcels.clear()

    def _aggregate(self) -> Digest:
        desk, order = self._desk, self._order
        draft = desk.folder / "model.draft"
        aggregate(
            desk.ledger,
            desk.store,
            desk.parcels,
            self._record,
            aggregator=order.aggregator,
            strategy=order.strategy,
            target=draft,
            agg_optimizer=order.agg_optimizer,
            folder=desk.folder,
        )
        self._watch.lap("aggregate_s", desk.clock.monotonic())
        model = desk.store.add(draft)
        self._watch.lap("save_s", desk.clock.monotonic())
        return model

    def _know(self, task: SendTask) -> None:
        self._tasks[task.task_id] = task
        self._intake.know(task)

    def _row(self, task: SendTask) -> TaskRow:
        return self._order.row(task, self._desk.clock.now())
