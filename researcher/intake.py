"""Take in what nodes answer: believe it, keep it, account for it once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from common.errors import InvalidTensorsError, UpdateRefusedError
from common.ids import Digest, TaskId
from common.mailbox import Mail
from common.messages import PayloadManifest, TaskFailed, TrainReply
from common.payload.blocks import BlockFile, Layout
from common.payload.header import Content
from researcher import round as rounds
from researcher.gate import Gate
from researcher.history import NodeRecord
from researcher.monitoring.events import Event, UpdateArrived
from researcher.order import Desk, RoundOrder
from researcher.rows import Outcome

log = logging.getLogger(__name__)


class Admission(Protocol):
    """Says which updates count."""

    def admits(self, task: TaskId) -> bool:
        """Tell whether an update of this task would be counted now."""
        ...


class Intake:
    """The answers to one round. Used by the thread that runs the experiment.

    What is to be remembered is gathered until `commit` writes all of it at once and then does what had to wait for that:
    tells of it and acknowledges messages.
    """

    def __init__(self, desk: Desk, order: RoundOrder, machine: Admission, opened_at: float) -> None:
        self._desk = desk
        self._tasks: dict[TaskId, rounds.SendTask] = {}
        self._gates: dict[TaskId, Gate] = {}
        self._arriving: dict[Digest, list[tuple[Mail, TrainReply]]] = {}
        self._writes: list[Callable[[], Event | None]] = []
        self._events: list[Event] = []
        self._afterwards: list[Callable[[], object]] = []
        self.turn(order, machine, opened_at)

    def turn(self, order: RoundOrder, machine: Admission, opened_at: float) -> None:
        """Go on with another round; answers to tasks of earlier ones are still taken in as far as the machine admits them."""
        desk = self._desk
        self._order = order
        self._machine = machine
        self._opened_at = opened_at
        self._tasks = {task: asked for task, asked in self._tasks.items() if machine.admits(task)}
        self._gates = {task: gate for task, gate in self._gates.items() if task in self._tasks}
        model = desk.store.content(order.base)
        self._gate = Gate(
            base=order.sent.sha256,
            model=_layout(model),
            content=model,
            plan_hash=order.plan_hash,
            plan_source=order.plan_source,
            arguments=order.training_args,
            train=order.kind == "train",
            measure=order.kind == "measure",
            encoding=order.encoding,
            requires=getattr(order.aggregator, "requires", ()),
        )

    @property
    def pending(self) -> bool:
        """Tell whether there is something to commit."""
        return bool(self._writes or self._events or self._afterwards)

    def commit(self, *more: Callable[[], Event | None]) -> None:
        """Write everything that was gathered, and `more`, in one transaction; then tell of it and acknowledge.

        What a step of `more` returns is told like what was gathered. Whatever a step raises, nothing was written or acknowledged, and
        the next commit tries again with what was gathered.

        Raises:
            StorageError: If the disk does not take it.
        """
        steps, written = (*self._writes, *more), []
        if steps:
            with self._desk.store.together():
                written = [step() for step in steps]
        events = [*self._events, *(event for event in written if event is not None)]
        self._writes, self._events = [], []
        if events:
            self._desk.notify(*events)
        afterwards, self._afterwards = self._afterwards, []
        for step in afterwards:
            step()

    def tell(self, event: Event) -> None:
        """Tell observers of an event once it is on disk."""
        self._events.append(event)

    def know(self, task: rounds.SendTask) -> None:
        """Learn who is asked for a task of this round."""
        self._tasks[task.task_id] = task
        self._gates[task.task_id] = self._gate

    def reply(self, mail: Mail, reply: TrainReply) -> rounds.Event | None:
        """Take in an update, or wait for the rest of it; return what the machine should know."""
        if self._stray(mail, reply):
            return None
        if not self._machine.admits(reply.task_id):
            self._account(mail, reply, Outcome.LATE)
            return None
        try:
            self._gates[reply.task_id].check_reply(reply, self._order.datasets[reply.sender])
        except UpdateRefusedError as error:
            return self._refused(mail, reply, error)
        manifest = reply.update
        if manifest is None:
            return self._accepted(mail, reply)
        if manifest.inline:
            digest = self._desk.store.put(mail.payload)
            if digest != manifest.sha256 or len(mail.payload) != manifest.size_bytes:
                self._desk.store.show(digest)
                return self._altered(mail, reply)
            return self._check(mail, reply, manifest)
        if not self._desk.store.files.has(manifest.sha256):
            self._arriving.setdefault(manifest.sha256, []).append((mail, reply))
            self._desk.hub.expect(manifest, reply.sender)
            return None
        return self._check(mail, reply, manifest)

    def payload(self, sha256: Digest) -> list[rounds.Event | None]:
        """Take in the updates whose tensors are now whole."""
        events: list[rounds.Event | None] = []
        for mail, reply in self._arriving.pop(sha256, ()):
            self._desk.hub.collect(sha256, self._desk.store.files)
            if reply.update is not None and self._machine.admits(reply.task_id):
                events.append(self._check(mail, reply, reply.update))
            else:
                self._account(mail, reply, Outcome.LATE)
        return events

    def damaged(self, sha256: Digest) -> list[rounds.Event]:
        """Refuse the updates whose tensors never came as they were announced."""
        events: list[rounds.Event] = []
        for mail, reply in self._arriving.pop(sha256, ()):
            if self._machine.admits(reply.task_id):
                events.append(self._altered(mail, reply))
            else:
                self._account(mail, reply, Outcome.LATE)
        return events

    def failure(self, mail: Mail, message: TaskFailed) -> rounds.TaskFailed | None:
        """Take in that a task came to nothing; return what the machine should know."""
        if self._stray(mail, message):
            return None
        self._afterwards.append(mail.ack)
        if not self._machine.admits(message.task_id):
            return None
        reason = f"{message.code}: {message.text}"
        return self.fail(message.task_id, reason, code=message.code, final=message.final)

    def fail(self, task: TaskId, reason: str, *, code: str, final: bool) -> rounds.TaskFailed:
        """Account for a task that came to nothing."""
        now = self._desk.clock.now()
        self._settle(task, "failed", now, reason=reason, code=code, final=final)
        return rounds.TaskFailed(task, reason, final=final, at=now)

    def close(self) -> None:
        """Give up on updates that are still arriving; the round is over."""
        for sha256, waiting in self._arriving.items():
            self._desk.hub.discard(sha256)
            for mail, reply in waiting:
                self._account(mail, reply, Outcome.LATE)
        self._arriving.clear()

    def _stray(self, mail: Mail, message: TrainReply | TaskFailed) -> bool:
        """Deal with what is not an answer to this round: of a run that ended, or not from the node that was asked."""
        asked = self._tasks.get(message.task_id)
        if asked is not None and asked.node == message.sender:
            return False
        self._writes.append(partial(account_stray, self._desk, mail))
        self._afterwards.append(mail.ack)
        return True

    def _check(self, mail: Mail, reply: TrainReply, update: PayloadManifest) -> rounds.Event:
        try:
            self._gates[reply.task_id].check_tensors(reply, self._desk.parcels.unpacked(update))
        except (InvalidTensorsError, UpdateRefusedError) as error:
            self._desk.store.show(update.sha256)
            if isinstance(error, InvalidTensorsError):
                reason = error.public_text
                error = UpdateRefusedError(node=reply.sender, round=reply.round, reason=reason)
            return self._refused(mail, reply, error)
        return self._accepted(mail, reply)

    def _accepted(self, mail: Mail, reply: TrainReply) -> rounds.Event:
        now = self._account(mail, reply, Outcome.ACCEPTED)
        self._settle(reply.task_id, "accepted", now)
        return rounds.UpdateAccepted(reply.task_id, now)

    def _refused(self, mail: Mail, reply: TrainReply, error: UpdateRefusedError) -> rounds.Event:
        reason = str(error.facts["reason"])
        facts = {"action": "update_refused", "node": reply.sender, "reason": reason}
        log.warning("update refused", extra=facts)
        now = self._account(mail, reply, Outcome.REFUSED, reason)
        told = f"{error.code}: update refused, {reason}"
        self._settle(reply.task_id, "refused", now, reason=told, code=error.code, final=True)
        return rounds.UpdateRefused(reply.task_id, told, now)

    def _altered(self, mail: Mail, reply: TrainReply) -> rounds.Event:
        altered = "its bytes are not those that it announces"
        return self._refused(
            mail, reply, UpdateRefusedError(node=reply.sender, round=reply.round, reason=altered)
        )

    def _settle(self, task: TaskId, state: str, at: float, **facts: Any) -> None:
        self._writes.append(partial(self._desk.ledger.settle_task, task, state, at, **facts))

    def _account(self, mail: Mail, reply: TrainReply, outcome: Outcome, reason: str | None = None) -> float:
        """Gather an update and its acknowledgement; return when it arrived."""
        now = self._desk.clock.now()
        self._writes.append(partial(self._write, reply, outcome, reason, now))
        self._afterwards.append(mail.ack)
        if reply.update is not None and not reply.update.inline:
            self._afterwards.append(partial(self._desk.hub.confirm, reply.update.sha256, reply.sender))
        return now

    def _write(
        self, reply: TrainReply, outcome: Outcome, reason: str | None, now: float
    ) -> UpdateArrived | None:
        ledger = self._desk.ledger
        written = ledger.add_update(reply, outcome, now, reason=reason)
        if written is None:
            return None  # it came twice
        if reply.notice is not None:
            log.warning("no gpu", extra={"action": "gpu_missing", "node": reply.sender, "why": reply.notice})
        record = NodeRecord(
            node=reply.sender,
            outcome=written,
            attempt=self._tasks[reply.task_id].attempt,
            reason=reason,
            digest=reply.update.sha256 if reply.update else None,
            update_bytes=reply.update.size_bytes if reply.update else 0,
            answered_s=now - self._opened_at,
            samples_seen=reply.samples_seen,
            samples_train=reply.samples_train,
            samples_test=reply.samples_test,
            losses=reply.losses,
            validations=reply.validations,
            timings=reply.timings,
            device=reply.device,
            notice=reply.notice,
            moments=reply.moments,
        )
        return UpdateArrived(reply.round, record)


def account_stray(desk: Desk, mail: Mail) -> None:
    """Write an answer that no round waits for into the ledger, if it is an update of this experiment's own task."""
    message = mail.message
    if isinstance(message, TrainReply):
        known = desk.ledger.task(message.task_id)
        if known is not None and known.node == message.sender:
            desk.ledger.add_update(message, Outcome.LATE, desk.clock.now())
            return
    log.info("stray answer", extra={"action": "stray_answer", "node": message.sender, "kind": message.kind})


def _layout(content: Content) -> Layout:
    with BlockFile(content) as model:
        return model.layout
