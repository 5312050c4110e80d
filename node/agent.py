"""Run a node: one loop that takes events, journals what follows from them, and only then acts.

Everything that happens (mail, workers, publishes, time) reaches one thread through one queue. It handles what has piled up in a
step, a single transaction of the journal, and then gives work to workers; after the step is on disk it acks and publishes. So after
`kill -9`, or a power cut, at any moment the next agent goes on from the journal, and the broker still holds whatever was not acked.
A step after which nothing leaves may wait a moment for the disk, mostly until the answer of the task takes it along. On a full disk
the agent does the same without ending: it waits until there is space, and goes on from the journal and with what it could not handle.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sqlite3
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from common import metrics
from common.audit.record import Action, Entry
from common.clock import Clock, SystemClock
from common.errors import DiskFullError, MessageError
from common.exporter import Exporter
from common.mailbox import Mail, Mailbox
from common.messages import NodeInfo
from common.settings import Timeouts
from common.sqlite import storage_errors
from common.transport.amqp import AmqpTransport
from common.transport.base import Transport
from node.approval import Approvals
from node.audit import started
from node.desk import Question
from node.exporter import node_exporter
from node.figures import PAUSED
from node.home import NodeHome
from node.inbox import ConnectionChanged, EndAsked, Happening, Inbox, RosterChanged
from node.journal import Journal
from node.outbox import ReplyPublished
from node.parts import put_together
from node.policy import Policy
from node.presence import Presence
from node.registry import Registry
from node.status import AgentStatus, write_status
from node.steps import Deed, Steps
from node.stops import StopAsked, StopWishes
from node.vigil import Touched, Vigil
from node.worker.pool import WorkerEnded, WorkerSaid

log = logging.getLogger(__name__)

VERSION: Final = version("warren-fl")
_FORGET_AFTER_S: Final = 30 * 86400.0
"""How long the journal remembers that a task existed, and what the last update of a run left out."""
_ROOM_BYTES: Final = 16 * 1024 * 1024
"""Space on the disk with which an agent that found it full goes on."""
_OTHER_KEYS: Final = "other keys took the place of those in use, or this node was revoked: install the reply and start the agent again"


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
        self._inbox = Inbox(self._clock)
        self._audit = home.audit()
        self._journal = Journal(home.journal_path)
        self._steps = Steps(self._journal, self._audit, self._clock)
        self._registry = Registry(home.registry_path)
        self._approvals = Approvals(home.registry_path)
        self._stops = StopWishes(home.registry_path)
        self._vigil = Vigil(
            mailbox.party,
            self._registry,
            self._stops,
            post=self._inbox.put,
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
            post=self._inbox.put,
            info=self.info,
            record=self._steps.record,
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
            with self._steps.step(self._work.consequences, last=True):
                self._journal.excuse()
            self._act()
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
        self._inbox.put(EndAsked())

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
                            self._inbox.put,
                            on_connection=lambda *change: self._inbox.put(ConnectionChanged(*change)),
                            on_roster=lambda _roster: self._inbox.put(RosterChanged()),
                        )
                        on_started()
                        begun = True
                    going_on = self._serve()
            except DiskFullError as error:
                recovered = False
                self._await_space(error)

    def _recover(self, *, first: bool) -> None:
        """Take up what the journal holds."""
        with self._steps.step(self._work.consequences):
            self._work.prune(self._clock.now() - _FORGET_AFTER_S)
            self._work.recover()
            if first:
                self._steps.record(started(self._mailbox.party, self._home.settings_path))
        self._write_status()
        self._act()

    def _serve(self) -> bool:
        """Handle what has happened, or what is due, and tell whether to go on."""
        moments = (
            *(self._presence.due, self._steps.due),
            *(self._work.due(), self._arrivals.due(), self._outbox.due()),
        )
        events = self._inbox.batch(min(moment for moment in moments if moment is not None))
        going_on = True
        with self._steps.step(self._work.consequences):
            for event in events:
                if isinstance(event, EndAsked):
                    going_on = False
                else:
                    self._handle(event)
            self._work.tick()
        self._inbox.handled()
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
            if not self._inbox.gather(until):
                raise error
            room = shutil.disk_usage(self._home.path).free >= _ROOM_BYTES
        log.info("space again", extra={"action": "resumed"})
        self._write_status(paused=None)
        self._wire()
        self._presence.hasten()
        self._resumed_at = self._clock.monotonic()

    def _act(self) -> None:
        """Perform what follows from the last step; all of it, also when one thing finds the disk full.

        Raises:
            DiskFullError: If one did.
        """
        full: DiskFullError | None = None
        after = self._work.consequences
        for deeds in (after.journalled, after.synced):
            while deeds:
                try:
                    self._perform(deeds.pop(0))
                except DiskFullError as error:
                    full = error
        if full is not None:
            raise full

    def _perform(self, deed: Deed) -> None:
        try:
            deed()
        except (sqlite3.DatabaseError, OSError) as error:
            with storage_errors(self._home.path):
                raise error from None

    def _handle(self, event: Happening) -> None:
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
                    self._work.consequences.synced.append(event.reject)
            case WorkerSaid() | WorkerEnded():
                self._work.worker_event(event)
            case ReplyPublished():
                self._work.reply_published(event)
            case Touched():
                if (changed := self._vigil.take(event)) is not None:
                    self._work.data_changed(changed)
            case StopAsked(task_id):
                self._work.stop(task_id)
                self._work.consequences.settled.append(lambda: self._stops.fulfil(task_id))
            case RosterChanged():
                self._write_status(notice=None if self._mailbox.listed else _OTHER_KEYS)
            case ConnectionChanged(connected=connected, detail=detail):
                self._write_status(connected=connected, detail=detail, changed_at=self._clock.now())
                self._presence.hasten()

    def _read(self, mail: Mail) -> None:
        message = mail.message
        if isinstance(message, Question):
            if message.deadline is None or message.deadline >= self._clock.now():
                answer = self._desk.answer(message)
                self._work.consequences.synced.append(lambda: self._mailbox.send(answer))
            self._work.consequences.settled.append(mail.ack)
        elif not self._work.take(mail):
            log.warning(
                "message of no use to a node", extra={"action": "message_ignored", "kind": message.kind}
            )
            mail.reject()

    def _write_status(self, **changed: object) -> None:
        self._status = self._status.model_copy(update=changed)
        PAUSED.set(self._status.paused is not None)
        write_status(self._home.status_path, self._status)


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
