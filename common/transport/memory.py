"""Carry messages between parties of one process, by the rules of the real broker.

For tests, simulations and the demo without RabbitMQ. What a party may do, what waits, what is delivered again and what is
refused is the same as over AMQP; `tests/contracts/test_transport.py` holds both to it.

Broker and transports are one machine under one lock: `_Hub` is the broker's half, `_Link` one party's. They only change
state; `MemoryTransport` has the thread that acts on it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from common.errors import (
    QueueFullError,
    TransportClosedError,
    UnroutableError,
    WarrenError,
)
from common.ids import PartyId
from common.settings import Role
from common.transport.base import PREFETCH, ConnectionListener, Delivery, Receiver
from common.transport.outgoing import Outgoing
from common.transport.topology import Inbox, Lane, lanes


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What one queue may hold before the broker refuses (`control`, `bulk`) or drops the oldest (`telemetry`)."""

    control_bytes: int = 64 * 1024**2
    bulk_bytes: int = 4 * 1024**3
    telemetry_messages: int = 1000


@dataclass(slots=True)
class _Message:
    body: bytes
    redelivered: bool = False


@dataclass(slots=True)
class _Queue:
    ready: deque[_Message] = field(default_factory=deque)
    ready_bytes: int = 0

    def push(self, message: _Message) -> None:
        self.ready.append(message)
        self.ready_bytes += len(message.body)

    def push_back(self, message: _Message) -> None:
        self.ready.appendleft(message)
        self.ready_bytes += len(message.body)

    def pop(self) -> _Message:
        message = self.ready.popleft()
        self.ready_bytes -= len(message.body)
        return message


class _Hub:
    """The broker's half of the machine. The lock is held by whoever calls."""

    def __init__(self, limits: QueueLimits) -> None:
        self.lock = threading.Lock()
        self.limits = limits
        self.roles: dict[PartyId, Role] = {}
        self.cut: set[PartyId] = set()
        self.allowed: dict[PartyId, int] = {}  # messages that are still taken from a party that is paused
        self.queues: dict[Inbox, _Queue] = {}
        self.dead: list[_Message] = []
        self.links: list[_Link] = []

    def admits(self, party: PartyId) -> bool:
        return party in self.roles and party not in self.cut

    def add(self, party: PartyId, role: Role) -> None:
        self.roles[party] = role
        for other, other_role in self.roles.items():
            if other != party:
                for lane in lanes(other_role, role):
                    self.queues.setdefault(Inbox(party, other, lane), _Queue())
                for lane in lanes(role, other_role):
                    self.queues.setdefault(Inbox(other, party, lane), _Queue())

    def remove(self, party: PartyId) -> None:
        self.roles.pop(party, None)
        self.queues = {
            inbox: queue
            for inbox, queue in self.queues.items()
            if party not in (inbox.recipient, inbox.sender)
        }

    def settle(self) -> None:
        """Let every link follow a change of parties or connections."""
        for link in self.links:
            link.settle()
            link.work.notify()

    def wake(self, parties: Iterable[PartyId]) -> None:
        for link in self.links:
            if link.party in parties:
                link.work.notify()

    def route(self, sender: PartyId, item: Outgoing) -> WarrenError | None:
        """Store the body for each recipient that has a queue with room, as RabbitMQ does even when some have none."""
        if sender in self.allowed:
            self.allowed[sender] -= 1
        inboxes = [Inbox(recipient, sender, item.lane) for recipient in item.recipients]
        routed = [inbox for inbox in inboxes if inbox in self.queues]
        full = [inbox.recipient for inbox in routed if not self._store(inbox, item.body)]
        self.wake(item.recipients)
        if not routed:
            return UnroutableError(recipient=", ".join(item.recipients), lane=item.lane)
        return QueueFullError(lane=item.lane, recipient=", ".join(full)) if full else None

    def _store(self, inbox: Inbox, body: bytes) -> bool:
        queue = self.queues[inbox]
        if inbox.lane is Lane.TELEMETRY:
            if len(queue.ready) >= self.limits.telemetry_messages:
                queue.pop()
        else:
            limit = self.limits.control_bytes if inbox.lane is Lane.CONTROL else self.limits.bulk_bytes
            if queue.ready_bytes + len(body) > limit:
                return False
        queue.push(_Message(body))
        return True


class _Link:
    """One party's half of the machine. The lock is held by whoever calls, save for `end`."""

    def __init__(self, hub: _Hub, party: PartyId) -> None:
        self.hub = hub
        self.party = party
        self.work = threading.Condition(hub.lock)
        self.inboxes: tuple[Inbox, ...] = ()
        self.connected = False
        self.changes: deque[tuple[bool, str]] = deque()
        self.outgoing: deque[Outgoing] = deque()
        self._consuming: dict[Inbox, dict[int, _Message]] = {}  # with what is unacknowledged, in order
        self._tags = count()

    @property
    def may_send(self) -> bool:
        return self.connected and self.hub.allowed.get(self.party, 1) > 0

    def settle(self) -> None:
        """Follow the broker: connect or disconnect, and forget queues that are gone."""
        connected = self.hub.admits(self.party)
        if connected != self.connected:
            self.connected = connected
            self.changes.append((connected, "connected" if connected else "the broker cut the connection"))
            if connected:
                self.consume()
            else:
                self.release()
        for inbox in self._consuming.keys() - self.hub.queues.keys():
            del self._consuming[inbox]

    def consume(self) -> None:
        """Read those of the wanted queues that exist now and belong to this party."""
        if self.connected:
            self.release([inbox for inbox in self._consuming if inbox not in self.inboxes])
            for inbox in self.inboxes:
                if inbox.recipient == self.party and inbox in self.hub.queues:
                    self._consuming.setdefault(inbox, {})

    def release(self, inboxes: Iterable[Inbox] | None = None) -> None:
        """Stop reading these queues, or all, and put what was not acknowledged back where it was."""
        for inbox in list(self._consuming) if inboxes is None else inboxes:
            unacked = self._consuming.pop(inbox)
            queue = self.hub.queues.get(inbox)
            if queue is not None:
                for message in reversed(unacked.values()):
                    message.redelivered = True
                    queue.push_back(message)

    def take(self) -> Delivery | None:
        """Return the next message of a queue whose prefetch is not used up; queues take turns."""
        for inbox, unacked in self._consuming.items():
            queue = self.hub.queues.get(inbox)
            if queue and queue.ready and len(unacked) < PREFETCH[inbox.lane]:
                self._consuming[inbox] = self._consuming.pop(inbox)
                tag, message = next(self._tags), queue.pop()
                unacked[tag] = message
                return Delivery(
                    sender=inbox.sender,
                    lane=inbox.lane,
                    body=message.body,
                    redelivered=message.redelivered,
                    ack=partial(self.end, inbox, tag, dead=False),
                    reject=partial(self.end, inbox, tag, dead=True),
                )
        return None

    def end(self, inbox: Inbox, tag: int, *, dead: bool) -> None:
        with self.work:
            message = self._consuming.get(inbox, {}).pop(tag, None)
            if message is not None and dead:
                self.hub.dead.append(message)
            self.work.notify()


class MemoryBroker:
    """A broker within this process. All methods are thread-safe and return at once."""

    def __init__(self, parties: Iterable[tuple[PartyId, Role]], *, limits: QueueLimits | None = None) -> None:
        self._hub = _Hub(limits or QueueLimits())
        for party, role in parties:
            self._hub.add(party, role)

    @property
    def dead(self) -> list[bytes]:
        """Return the bodies that were rejected, oldest first."""
        with self._hub.lock:
            return [message.body for message in self._hub.dead]

    def transport(self, party: PartyId) -> MemoryTransport:
        """Return a new transport for a party; it connects when started."""
        return MemoryTransport(_Link(self._hub, party))

    def add(self, party: PartyId, role: Role) -> None:
        """Add a party with the queues between it and every party that it may talk to."""
        with self._hub.lock:
            self._hub.add(party, role)
            self._hub.settle()

    def remove(self, party: PartyId) -> None:
        """Revoke a party: its connections end, and its queues are gone with what they held."""
        with self._hub.lock:
            self._hub.remove(party)
            self._hub.settle()

    def disconnect(self, party: PartyId) -> None:
        """Cut the party's connections; what it did not acknowledge goes back, and what it publishes waits."""
        with self._hub.lock:
            self._hub.cut.add(party)
            self._hub.settle()

    def reconnect(self, party: PartyId) -> None:
        """Let the party connect again."""
        with self._hub.lock:
            self._hub.cut.discard(party)
            self._hub.settle()

    def pause(self, party: PartyId, *, after: int = 0) -> None:
        """Take nothing from the party until `resume`, as a broker short of memory does; it still receives.

        Args:
            party: Who has to wait.
            after: Messages of its that are taken before.
        """
        with self._hub.lock:
            self._hub.allowed[party] = after

    def resume(self, party: PartyId) -> None:
        """Take messages from the party again."""
        with self._hub.lock:
            self._hub.allowed.pop(party, None)
            self._hub.wake([party])


class MemoryTransport:
    """One party's way to a `MemoryBroker`; see `common.transport.base.Transport` for the promises."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._work = link.work
        self._closed = False
        self._receiver: Receiver | None = None
        self._listener: ConnectionListener | None = None
        self._thread: threading.Thread | None = None

    @property
    def party(self) -> PartyId:
        """Return the party that this transport speaks for."""
        return self._link.party

    def publish(self, lane: Lane, recipients: Sequence[PartyId], body: bytes) -> Future[None]:
        """Send one body to all recipients; see `Transport.publish`."""
        item = Outgoing.of(lane, recipients, body)
        if not item.ended:
            with self._work:
                if self._closed:
                    item.fail(TransportClosedError(action="publish", party=self.party))
                elif lane is not Lane.TELEMETRY:
                    self._link.outgoing.append(item)
                else:
                    item.succeed()
                    if self._link.may_send:
                        self._link.outgoing.append(item)
                self._work.notify()
        return item.future

    def start(
        self, receiver: Receiver, inboxes: Iterable[Inbox], listener: ConnectionListener | None = None
    ) -> None:
        """Connect as soon as the broker lets this party; see `Transport.start`."""
        with self._work:
            if self._closed:
                raise TransportClosedError(action="start", party=self.party)
            self._receiver, self._listener = receiver, listener
            self._link.inboxes = tuple(inboxes)
            self._link.hub.links.append(self._link)
            self._link.settle()
            self._thread = threading.Thread(target=self._run, name=f"memory-{self.party}", daemon=True)
            self._thread.start()

    def watch(self, inboxes: Iterable[Inbox]) -> None:
        """Replace the set of queues that are read; see `Transport.watch`."""
        with self._work:
            self._link.inboxes = tuple(inboxes)
            self._link.consume()
            self._work.notify()

    def close(self) -> None:
        """Stop and give back what was not acknowledged; see `Transport.close`."""
        with self._work:
            self._closed = True
            ends = [self._sent(item) for item in self._link.outgoing]
            self._link.outgoing.clear()
            if self._link in self._link.hub.links:
                self._link.hub.links.remove(self._link)
                self._link.release()
                self._link.hub.wake([self.party])  # another transport of this party may read on
            self._work.notify()
        for end in ends:
            end()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        for step in self._steps():
            step()

    def _steps(self) -> Iterator[Callable[[], None]]:
        """Yield what to do without the lock, one after the other, until closed."""
        while True:
            with self._work:
                step = None
                while not self._closed and (step := self._next()) is None:
                    self._work.wait()
            if step is None:
                return
            yield step

    def _next(self) -> Callable[[], None] | None:
        link = self._link
        while link.changes:
            change = link.changes.popleft()
            if self._listener is not None:
                return partial(self._listener, *change)
        if link.outgoing and link.may_send:
            return self._sent(link.outgoing.popleft())
        delivery = link.take()
        if delivery is not None and self._receiver is not None:
            return partial(self._receiver, delivery)
        return None

    def _sent(self, item: Outgoing) -> Callable[[], None]:
        """Hand one message to the broker, if it takes any, and return how to tell its publisher."""
        link = self._link
        error: WarrenError | None
        if link.may_send:
            error = link.hub.route(link.party, item)
        else:
            error = TransportClosedError(action="publish", party=self.party)
        return partial(item.fail, error) if error else item.succeed
