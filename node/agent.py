"""Run a node: one loop that takes events, journals what follows from them, and only then acts.

Everything that happens (mail, workers, publishes, time) reaches one thread through one queue. It handles what has piled up in a
single transaction of the journal, and after that is on disk it acks, publishes and starts workers. So after `kill -9` at any
moment the next agent goes on from the journal, and the broker still holds whatever was not acked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import start_http_server

from common import metrics
from common.audit.record import Action, Entry
from common.clock import Clock, SystemClock
from common.errors import MessageError, PortTakenError
from common.mailbox import Mail, Mailbox
from common.messages import (
    Chunk,
    ChunkRequest,
    NodeInfo,
    NodePresence,
    PayloadReceipt,
    RunEnd,
    TaskCancel,
    TrainRequest,
)
from common.payload.store import PayloadStore
from common.settings import Timeouts
from common.transport.amqp import AmqpTransport
from common.transport.base import Transport
from node.approval import Approvals
from node.arrivals import Arrivals
from node.audit import LEAVES, started
from node.desk import Desk, Question
from node.home import NodeHome
from node.journal import Journal
from node.outbox import Outbox, ReplyPublished
from node.policy import Policy
from node.registry import Registry
from node.sandbox import worker_user
from node.status import AgentStatus, write_status
from node.work import Work
from node.worker.folder import let_in
from node.worker.pool import Walls, WorkerEnded, WorkerEvent, WorkerPool, WorkerSaid

log = logging.getLogger(__name__)

VERSION: Final = version("warren-fl")
_PRESENCE_SHARE: Final = 0.4
"""Presence is told every 0.4 of the silence after which a node counts as offline, so that one lost message does not matter."""
_FORGET_AFTER_S: Final = 30 * 86400.0
"""How long the journal remembers that a task existed, and what the last update of a run left out."""
_LOOPBACK: Final = "127.0.0.1"
_BATCH: Final = 64
"""Most events in one transaction; short enough to answer quickly."""


class _Stop:
    """Asks the loop to end."""


class _Connection:
    """The connection to the broker came or went."""

    def __init__(self, connected: bool, detail: str) -> None:  # noqa: FBT001 - mirrors the transport's listener
        self.connected = connected
        self.detail = detail


_Event = Mail | WorkerSaid | WorkerEnded | ReplyPublished | _Connection | _Stop


class Agent:
    """The long-lived process of a node. `run` blocks; `stop` may be called from any thread or a signal handler."""

    def __init__(
        self,
        home: NodeHome,
        mailbox: Mailbox,
        *,
        policy: Policy,
        timeouts: Timeouts,
        clock: Clock | None = None,
    ) -> None:
        """Open what is in the home; nothing is sent or received before `run`.

        Raises:
            StorageError: If a database of the home cannot be used.
        """
        self._home = home
        self._mailbox = mailbox
        self._clock = clock or SystemClock()
        self._started_at = self._clock.now()
        self._presence_s = _PRESENCE_SHARE * timeouts.presence_s
        self._presence_at = self._clock.monotonic()
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._policy = policy
        self._audit = home.audit()
        self._entries: list[Entry] = []  # what the step in work does, for the audit log
        self._journal = Journal(home.journal_path)
        self._registry = Registry(home.registry_path)
        self._approvals = Approvals(home.registry_path)
        payloads = PayloadStore(home.payloads)
        self._pool = WorkerPool(
            home.work,
            home.log / "worker.log",
            post=self._events.put,
            max_idle=policy.max_workers,
            walls=_walls(home, policy),
            threads=policy.worker_threads or max(1, (os.cpu_count() or 1) // policy.max_workers),
        )
        self._arrivals = Arrivals(
            mailbox, payloads, limit_bytes=policy.max_model_bytes, clock=self._clock, timeouts=timeouts
        )
        self._outbox = Outbox(
            mailbox, self._journal, payloads, published=self._events.put, clock=self._clock, timeouts=timeouts
        )
        self._work = Work(
            mailbox,
            self._journal,
            payloads,
            self._arrivals,
            self._outbox,
            self._pool,
            self._registry,
            self._approvals,
            policy,
            record=self._entries.append,
            clock=self._clock,
            timeouts=timeouts,
        )
        self._desk = Desk(
            mailbox.party, self._registry, self._approvals, policy, self.info, self._entries.append
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
            StorageError: If the disk fails. What was not acked stays with the broker, and the next start goes on from the journal.
        """
        try:
            with self._step():
                self._work.prune(self._clock.now() - _FORGET_AFTER_S)
                self._work.recover()
                self._entries.append(started(self._mailbox.party, self._home.settings_path))
            self._write_status(connected=False, detail="connecting")
            self._mailbox.start(
                self._events.put, on_connection=lambda *change: self._events.put(_Connection(*change))
            )
            on_started()
            while self._serve():
                pass
            self._say_presence(leaving=True)
            self._audit.append(Entry(action=Action.AGENT_STOPPED, actor=self._mailbox.party))
        finally:
            self._mailbox.close()
            self._pool.close()
            self._journal.close()
            self._registry.close()
            self._approvals.close()

    def stop(self) -> None:
        """Ask the loop to end; running tasks are journalled and done again by the next agent."""
        self._events.put(_Stop())

    def _serve(self) -> bool:
        """Handle what has happened, or what is due, and tell whether to go on."""
        events = self._take()
        going_on = True
        with self._step(durable=not all(_can_wait(event) for event in events)):
            for event in events:
                if isinstance(event, _Stop):
                    going_on = False
                else:
                    self._handle(event)
            self._work.tick()
        self._arrivals.tick()
        self._outbox.tick()
        if self._clock.monotonic() >= self._presence_at:
            self._say_presence()
            self._work.beat()
        return going_on

    def _take(self) -> list[_Event]:
        """Wait until something must be handled or is due; return all events that are there, up to a bound."""
        moments = (self._presence_at, self._work.due(), self._arrivals.due(), self._outbox.due())
        until = min(moment for moment in moments if moment is not None)
        events: list[_Event] = []
        with contextlib.suppress(queue.Empty):
            while all(_can_wait(event) for event in events):
                events.append(self._events.get(timeout=max(0.0, until - self._clock.monotonic())))
            while len(events) < _BATCH:
                events.append(self._events.get_nowait())
        return events

    @contextlib.contextmanager
    def _step(self, *, durable: bool = True) -> Iterator[None]:
        """Record everything of the block, then journal it at once, then perform what had to wait for that.

        What a crash keeps from being journalled is recorded again when it is done again: the audit log may say something twice, and
        never too little.
        """
        with self._journal.transaction(durable=durable):
            yield
            entries, self._entries[:] = tuple(self._entries), ()
            self._audit.append(*entries, durable=any(entry.action in LEAVES for entry in entries))
        while self._work.after_commit:
            self._work.after_commit.pop(0)()

    def _handle(self, event: Mail | WorkerEvent | ReplyPublished | _Connection) -> None:
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
                    event.reject()
            case WorkerSaid() | WorkerEnded():
                self._work.worker_event(event)
            case ReplyPublished():
                self._work.reply_published(event)
            case _Connection(connected=connected, detail=detail):
                self._write_status(connected=connected, detail=detail)
                self._presence_at = self._clock.monotonic()

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

    def _say_presence(self, *, leaving: bool = False) -> None:
        self._presence_at = self._clock.monotonic() + self._presence_s
        researchers = tuple(member.party for member in self._mailbox.roster.active("researcher"))
        if researchers:
            party = self._mailbox.party
            self._mailbox.send(
                NodePresence(sender=party, recipients=researchers, info=self.info(), leaving=leaving)
            )

    def _write_status(self, *, connected: bool, detail: str) -> None:
        status = AgentStatus(
            party=self._mailbox.party,
            pid=os.getpid(),
            version=VERSION,
            started_at=self._started_at,
            connected=connected,
            detail=detail,
            changed_at=self._clock.now(),
        )
        write_status(self._home.status_path, status)


def _can_wait(event: _Event) -> bool:
    """Tell whether an event may be journalled with a later one.

    That the broker has a reply may: if it is forgotten in a crash, the reply goes out once more and is recognised.
    """
    return isinstance(event, ReplyPublished) and event.error is None


def _walls(home: NodeHome, policy: Policy) -> Walls:
    """Return what is put up around workers; lets their user, if they have one, on the way to the working folder.

    Raises:
        ProtectionMissingError: If the policy names a user for workers that cannot be used.
    """
    user = None if policy.worker_user is None else worker_user(policy.worker_user)
    databases = (home.registry_path, home.journal_path)
    if user is not None and os.geteuid() == 0:
        for path in databases:
            path.chmod(0o600)
        let_in(home.path, user)
    return Walls(
        limits=policy.worker_limits(),
        compulsory=frozenset(policy.compulsory_protections),
        hidden=(home.path, home.kit_path, *databases, home.payloads, home.work, home.log),
        user=user,
    )


def build(home: NodeHome, *, transport: Transport | None = None) -> Agent:
    """Wire an agent from its home.

    Args:
        home: The home; the caller holds its lock.
        transport: What carries its messages; the broker named in the kit if not given.

    Raises:
        FederationError: If the kit cannot be used.
        InvalidSettingsError: If `node.toml` is wrong.
        PortTakenError: If the port for metrics cannot be used.
        StorageError: If a database of the home cannot be used.
    """
    kit = home.kit()
    policy = home.policy()
    if policy.metrics_port is not None:
        _export_metrics(policy.metrics_port)
    mailbox = Mailbox.of_kit(kit, transport or AmqpTransport(kit.connection, kit.ssl_context()))
    return Agent(home, mailbox, policy=policy, timeouts=kit.connection.timeouts)


def _export_metrics(port: int) -> None:
    """Let Prometheus read the metrics of this process on a port of the loopback, until the process ends."""
    try:
        start_http_server(port, addr=_LOOPBACK, registry=metrics.REGISTRY)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PortTakenError(host=_LOOPBACK, port=port, reason=reason) from error
