"""Run a node: one loop that takes events, journals what follows from them, and only then acts.

Everything that happens (mail, workers, publishes, time) reaches one thread through one queue. It handles what has piled up in a
single transaction of the journal, and after that is on disk it acks, publishes and starts workers. So after `kill -9` at any
moment the next agent goes on from the journal, and the broker still holds whatever was not acked. On a full disk the agent does
the same without ending: it waits until there is space, and goes on from the journal and with what it could not handle.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from common import metrics
from common.audit.record import Action, Entry
from common.clock import Clock, SystemClock
from common.errors import DiskFullError, MessageError
from common.exporter import Exporter
from common.mailbox import Mail, Mailbox
from common.messages import (
    Chunk,
    ChunkRequest,
    NodeInfo,
    PayloadReceipt,
    RunEnd,
    TaskCancel,
    TrainRequest,
)
from common.settings import Timeouts
from common.sqlite import storage_errors
from common.transport.amqp import AmqpTransport
from common.transport.base import Transport
from node.approval import Approvals
from node.audit import LEAVES, started
from node.desk import Question
from node.exporter import node_exporter
from node.figures import PAUSED
from node.home import NodeHome
from node.journal import Journal
from node.outbox import ReplyPublished
from node.parts import put_together
from node.policy import Policy
from node.presence import Presence
from node.registry import Registry
from node.status import AgentStatus, write_status
from node.stops import StopAsked, StopWishes
from node.vigil import Touched, Vigil
from node.worker.pool import WorkerEnded, WorkerEvent, WorkerSaid

log = logging.getLogger(__name__)

VERSION: Final = version("warren-fl")
_FORGET_AFTER_S: Final = 30 * 86400.0
"""How long the journal remembers that a task existed, and what the last update of a run left out."""
_ROOM_BYTES: Final = 16 * 1024 * 1024
"""Space on the disk with which an agent that found it full goes on."""
_OTHER_KEYS: Final = "other keys took the place of those in use, or this node was revoked: install the reply and start the agent again"
_BATCH: Final = 64
"""Most events in one transaction; short enough to answer quickly."""


class _Stop:
    """Asks the loop to end."""


class _Connection:
    """The connection to the broker came or went."""

    def __init__(self, connected: bool, detail: str) -> None:  # noqa: FBT001 - mirrors the transport's listener
        self.connected = connected
        self.detail = detail


class _Renewed:
    """The roster changed."""


_Event = (
    Mail | WorkerSaid | WorkerEnded | ReplyPublished | Touched | StopAsked | _Connection | _Renewed | _Stop
)


class Agent:
    """The long-lived process of a node. `run` blocks; `stop` may be called from any thread or a signal handler."""

    def __init__(
        self,
        home: NodeHome,
        mailbox: Mailbox,
        *,
        policy: Policy,
        timeouts: Timeouts,
        expires_at: float,
        clock: Clock | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        """Open what is in the home; nothing is sent or received before `run`.

        Raises:
            StorageError: If a database of the home cannot be used.
        """
        self._home = home
        self._mailbox = mailbox
        self._policy = policy
        self._timeouts = timeouts
        self._clock = clock or SystemClock()
        self._exporter = exporter
        self._started_at = self._clock.now()
        self._status = AgentStatus(
            party=mailbox.party,
            pid=os.getpid(),
            version=VERSION,
            started_at=self._started_at,
            connected=False,
            detail="connecting",
            changed_at=self._started_at,
        )
        self._presence = Presence(
            mailbox, policy, self.info, expires_at=expires_at, clock=self._clock, timeouts=timeouts
        )
        self._pause_s = timeouts.reconnect_first_s
        self._resumed_at = self._clock.monotonic()
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._later: deque[_Event] = deque()  # what need not wake the loop
        self._batch: list[_Event] = []  # what is being handled
        self._audit = home.audit()
        self._entries: list[Entry] = []  # what the step in work does, for the audit log
        self._journal = Journal(home.journal_path)
        self._registry = Registry(home.registry_path)
        self._approvals = Approvals(home.registry_path)
        self._stops = StopWishes(home.registry_path)
        self._vigil = Vigil(
            mailbox.party,
            self._registry,
            self._stops,
            post=self._events.put,
            record=self._audit.append,
            clock=self._clock,
        )
        self._wire()

    def _wire(self) -> None:
        """Put together all that lives between the journal and the mailbox, as the journal has it."""
        self._pool, self._arrivals, self._outbox, self._work, self._desk = put_together(
            self._home,
            self._mailbox,
            self._journal,
            self._registry,
            self._approvals,
            self._policy,
            post=self._post,
            info=self.info,
            record=self._entries.append,
            clock=self._clock,
            timeouts=self._timeouts,
        )

    def info(self) -> NodeInfo:
        """Return what the node tells about itself."""
        return NodeInfo(
            version=VERSION,
            python=platform.python_version(),
            started_at=self._started_at,
            max_workers=self._policy.max_workers,
            running=self._work.running,
            waiting=self._work.waiting,
            datasets=len(self._registry.list()),
            plan_approval=self._policy.plan_approval,
        )

    def run(self, *, on_started: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop` is called; closes everything before it returns.

        Args:
            on_started: Called once, when the node has recovered its journal and begun to connect.

        Raises:
            StorageError: If the disk fails, or is full when `stop` is called. What was not acked stays with the broker, and the
                next start goes on from the journal.
        """
        try:
            self._run(on_started)
            with self._step():
                self._journal.excuse()
            self._presence.say(self._work, self._pool, leaving=True)
            self._audit.append(Entry(action=Action.AGENT_STOPPED, actor=self._mailbox.party))
        finally:
            if self._exporter is not None:
                self._exporter.close()
            self._mailbox.close()
            self._pool.close()
            self._arrivals.close()
            self._journal.close()
            self._vigil.close()
            self._stops.close()
            self._registry.close()
            self._approvals.close()

    def stop(self) -> None:
        """Ask the loop to end; running tasks are journalled and done again by the next agent."""
        self._events.put(_Stop())

    def _run(self, on_started: Callable[[], None]) -> None:
        """Recover, connect and serve until told to stop; begin again, save for connecting, after each time that the disk is full."""
        recovered = begun = False
        going_on = True
        while going_on:
            try:
                with storage_errors(self._home.path):
                    if not recovered:
                        self._recover(first=not begun)
                        recovered = True
                    if not begun:
                        self._mailbox.start(
                            self._events.put,
                            on_connection=lambda *change: self._events.put(_Connection(*change)),
                            on_roster=lambda _roster: self._events.put(_Renewed()),
                        )
                        on_started()
                        begun = True
                    going_on = self._serve()
            except DiskFullError as error:
                recovered = False
                self._await_space(error)

    def _recover(self, *, first: bool) -> None:
        """Take up what the journal holds."""
        with self._step():
            self._work.prune(self._clock.now() - _FORGET_AFTER_S)
            self._work.recover()
            if first:
                self._entries.append(started(self._mailbox.party, self._home.settings_path))
        self._write_status()
        self._act()

    def _serve(self) -> bool:
        """Handle what has happened, or what is due, and tell whether to go on."""
        events = self._batch = self._batch or self._take()
        going_on = True
        with self._step(durable=not all(_can_wait(event) for event in events)):
            for event in events:
                if isinstance(event, _Stop):
                    going_on = False
                else:
                    self._handle(event)
            self._work.tick()
        self._batch = []
        self._act()
        self._arrivals.tick()
        self._outbox.tick()
        if self._clock.monotonic() >= self._presence.due:
            self._presence.say(self._work, self._pool)
            self._work.beat()
            self._vigil.look()
        return going_on

    def _await_space(self, error: DiskFullError) -> None:
        """Do nothing until the disk has space again, then put everything together anew, as the journal has it.

        Workers end. What could not be handled, and what comes meanwhile, is handled afterwards: it was not acked, and the broker sends
        no more than the prefetch of each queue.

        Raises:
            DiskFullError: The same, if `stop` is called meanwhile.
        """
        log.error("disk full, waiting for space", extra={"action": "paused", "error": str(error)})
        self._entries.clear()
        self._pool.close()
        self._arrivals.close()
        self._presence.say(self._work, self._pool, leaving=True)
        self._write_status(paused=str(error))
        if self._clock.monotonic() - self._resumed_at > self._timeouts.reconnect_max_s:
            self._pause_s = self._timeouts.reconnect_first_s
        room = False
        while not room:
            until = self._clock.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, self._timeouts.reconnect_max_s)
            with contextlib.suppress(queue.Empty):
                while not any(isinstance(event, _Stop) for event in self._batch):
                    self._batch.append(self._events.get(timeout=max(0.0, until - self._clock.monotonic())))
                raise error
            room = shutil.disk_usage(self._home.path).free >= _ROOM_BYTES
        log.info("space again", extra={"action": "resumed"})
        self._write_status(paused=None)
        self._wire()
        self._presence.hasten()
        self._resumed_at = self._clock.monotonic()

    def _take(self) -> list[_Event]:
        """Wait until something must be handled or is due; return all events that are there, up to a bound."""
        moments = (self._presence.due, self._work.due(), self._arrivals.due(), self._outbox.due())
        until = min(moment for moment in moments if moment is not None)
        events: list[_Event] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=max(0.0, until - self._clock.monotonic())))
            while len(events) < _BATCH:
                events.append(self._events.get_nowait())
        return [*(self._later.popleft() for _ in range(len(self._later))), *events]

    def _post(self, event: WorkerEvent | ReplyPublished) -> None:
        """Take an event from another thread; what can wait is handled with the next one, or when something is due."""
        if _can_wait(event):
            self._later.append(event)
        else:
            self._events.put(event)

    @contextlib.contextmanager
    def _step(self, *, durable: bool = True) -> Iterator[None]:
        """Record everything of the block, then journal it at once; `_act` performs what had to wait for that.

        What a crash keeps from being journalled is recorded again when it is done again: the audit log may say something twice, and
        never too little.
        """
        with self._journal.transaction(durable=durable):
            yield
            entries, self._entries[:] = tuple(self._entries), ()
            self._audit.append(*entries, durable=any(entry.action in LEAVES for entry in entries))

    def _act(self) -> None:
        """Perform what had to wait for the journal; all of it, also when one thing finds the disk full.

        Raises:
            DiskFullError: If one did.
        """
        full: DiskFullError | None = None
        while self._work.after_commit:
            try:
                with storage_errors(self._home.path):
                    self._work.after_commit.pop(0)()
            except DiskFullError as error:
                full = error
        if full is not None:
            raise full

    def _handle(
        self, event: Mail | WorkerEvent | ReplyPublished | Touched | StopAsked | _Connection | _Renewed
    ) -> None:
        match event:
            case Mail():
                try:
                    self._read(event)
                except MessageError as error:
                    log.warning(
                        "message refused",
                        extra={
                            "action": "message_refused",
                            "sender": event.message.sender,
                            "error": str(error),
                        },
                    )
                    metrics.REFUSED_MESSAGES.labels(reason=error.code).inc()
                    self._work.after_commit.append(event.reject)
            case WorkerSaid() | WorkerEnded():
                self._work.worker_event(event)
            case ReplyPublished():
                self._work.reply_published(event)
            case Touched():
                if (changed := self._vigil.take(event)) is not None:
                    self._work.data_changed(changed)
            case StopAsked(task_id):
                self._work.stop(task_id)
                self._work.after_commit.append(lambda: self._stops.fulfil(task_id))
            case _Renewed():
                self._write_status(notice=None if self._mailbox.listed else _OTHER_KEYS)
            case _Connection(connected=connected, detail=detail):
                self._write_status(connected=connected, detail=detail, changed_at=self._clock.now())
                self._presence.hasten()

    def _read(self, mail: Mail) -> None:
        message = mail.message
        match message:
            case TrainRequest():
                self._work.train(mail, message)
            case Chunk():
                self._work.chunk(mail, message)
            case TaskCancel():
                self._work.cancel(message)
                self._work.after_commit.append(mail.ack)
            case RunEnd():
                self._work.end(message)
                self._work.after_commit.append(mail.ack)
            case PayloadReceipt():
                self._work.receipt(message)
                self._work.after_commit.append(mail.ack)
            case ChunkRequest():
                self._outbox.send_chunks(message)
                self._work.after_commit.append(mail.ack)
            case _ if isinstance(message, Question):
                if message.deadline is None or message.deadline >= self._clock.now():
                    answer = self._desk.answer(message)
                    self._work.after_commit.append(lambda: self._mailbox.send(answer))
                self._work.after_commit.append(mail.ack)
            case _:
                log.warning(
                    "message of no use to a node", extra={"action": "message_ignored", "kind": message.kind}
                )
                mail.reject()

    def _write_status(self, **changed: object) -> None:
        self._status = self._status.model_copy(update=changed)
        PAUSED.set(self._status.paused is not None)
        write_status(self._home.status_path, self._status)


def _can_wait(event: _Event) -> bool:
    """Tell whether an event may be journalled with a later one.

    That the broker has a reply may: if it is forgotten in a crash, the reply goes out once more and is recognised.
    """
    return isinstance(event, ReplyPublished) and event.error is None


def build(home: NodeHome, *, transport: Transport | None = None) -> Agent:
    """Wire an agent from its home.

    Args:
        home: The home; the caller holds its lock.
        transport: What carries its messages; the broker named in the kit if not given.

    Raises:
        FederationError: If the kit cannot be used.
        InvalidSettingsError: If `policy.toml` is wrong.
        PortTakenError: If the port for metrics cannot be used.
        StorageError: If a database of the home cannot be used.
    """
    kit = home.kit()
    policy = home.policy()
    mailbox = Mailbox.of_kit(kit, transport or AmqpTransport(kit.connection, kit.ssl_context()))
    return Agent(
        home,
        mailbox,
        policy=policy,
        timeouts=kit.connection.timeouts,
        expires_at=kit.expires_at,
        exporter=node_exporter(home, policy),
    )
