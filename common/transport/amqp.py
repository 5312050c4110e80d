"""Carry messages over RabbitMQ with mutual TLS.

One thread owns one I/O loop with two connections; everybody else posts to it. `amqp_publisher` and `amqp_reader` hold what
happens on each connection, `amqp_link` the pair of them; this module keeps a link up.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

from common.clock import Clock, SystemClock
from common.errors import TransportClosedError, WarrenError
from common.ids import PartyId
from common.metrics import CONNECTED, CONNECTIONS, TIMEOUTS
from common.settings import Connection
from common.transport.amqp_connection import BrokerConnection, diagnose
from common.transport.amqp_link import Link
from common.transport.amqp_loop import IoThread
from common.transport.amqp_publisher import Publisher
from common.transport.amqp_reader import LaneReader
from common.transport.base import ConnectionListener, Receiver
from common.transport.outgoing import Outgoing
from common.transport.topology import Inbox, Lane

_LOG: Final = logging.getLogger(__name__)
_REMIND_S: Final = 600.0
_GROWTH: Final = 1.25
"""Of the pauses between attempts to connect: a broker that is back is found within a quarter of the time that it was away."""
_SYSTEM: Final = SystemClock()


class Backoff:
    """Pauses between attempts: the first as told, each next a quarter longer up to a limit, with jitter."""

    def __init__(self, first_s: float, longest_s: float, rng: random.Random) -> None:
        self._first_s, self._longest_s, self._rng = first_s, longest_s, rng
        self._base_s = first_s

    def pause_s(self) -> float:
        """Return how long to wait before the next attempt: at least three quarters of `first_s`, at most `longest_s`.

        Pauses are counted as the time limit that they grow from, or have grown to.
        """
        base_s = min(self._base_s, self._longest_s)
        TIMEOUTS.labels("reconnect_first_s" if base_s < self._longest_s else "reconnect_max_s").inc()
        self._base_s = base_s * _GROWTH
        return base_s * self._rng.uniform(0.75, 1.0)

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._base_s = self._first_s


class AmqpTransport:
    """One party's way to RabbitMQ; see `common.transport.base.Transport` for the promises."""

    def __init__(
        self, connection: Connection, ssl_context: ssl.SSLContext, *, clock: Clock = _SYSTEM
    ) -> None:
        self._connection = connection
        self._context = ssl_context
        self._clock = clock
        self._timeouts = connection.timeouts
        self._lock = threading.Lock()
        self._started = self._closed = False
        self._io = IoThread(f"amqp-{connection.party}", self._fault)
        self._receiver: Receiver | None = None
        self._listener: ConnectionListener | None = None
        self._inboxes: tuple[Inbox, ...] = ()
        # What follows lives on the I/O thread.
        self._publisher = Publisher(connection.party, partial(self._tell, True))
        self._backoff = Backoff(
            self._timeouts.reconnect_first_s,
            self._timeouts.reconnect_max_s,
            random.Random(),  # noqa: S311  only spreads reconnecting parties
        )
        self._link: Link | None = None  # the one in use or being opened
        self._ending: set[Link] = set()  # dropped, and not yet gone
        self._readers: tuple[LaneReader, ...] = ()
        self._state: type[WarrenError] | bool | None = None  # True: connected; a type: not connected, and why
        self._remind_at = 0.0
        self._finishing = False

    @property
    def party(self) -> PartyId:
        """Return the party that this transport speaks for."""
        return self._connection.party

    def publish(self, lane: Lane, recipients: Sequence[PartyId], body: bytes) -> Future[None]:
        """Send one body to all recipients; see `Transport.publish`."""
        item = Outgoing.of(lane, recipients, body)
        if not item.ended:
            with self._lock:
                if self._closed:
                    item.fail(self._closed_error("publish"))
                else:
                    if lane is Lane.TELEMETRY:
                        item.succeed()
                    self._io.post(partial(self._publisher.add, item))
        return item.future

    def start(
        self, receiver: Receiver, inboxes: Iterable[Inbox], listener: ConnectionListener | None = None
    ) -> None:
        """Begin to connect, and never give up; see `Transport.start`."""
        with self._lock:
            if self._closed:
                raise self._closed_error("start")
            self._receiver, self._listener, self._inboxes = receiver, listener, tuple(inboxes)
            self._started = True
            self._io.start(self._connect)

    def watch(self, inboxes: Iterable[Inbox]) -> None:
        """Replace the set of queues that are read; see `Transport.watch`."""
        self._io.post(partial(self._watch, tuple(inboxes)))

    def close(self) -> None:
        """Send what can be sent within a moment, then stop; see `Transport.close`.

        Returns within about `stop_s`, also when the broker does not answer. Not for the transport's own thread.
        """
        with self._lock:
            first, self._closed = not self._closed, True
        if self._started:
            if first:
                self._io.post(self._finish)
            self._io.join()
        self._io.drain()
        self._publisher.fail(self._closed_error("publish"))

    def _closed_error(self, action: str) -> TransportClosedError:
        return TransportClosedError(action=action, party=self.party)

    # Everything below runs on the I/O thread.

    def _connect(self) -> None:
        if self._link is None and not self._finishing:
            self._link = Link(
                self._connection,
                self._context,
                self._io.loop,
                prepare=self._publisher.attach,
                on_up=self._up,
                on_down=self._down,
                on_gone=self._gone,
            )

    def _up(self, consuming: BrokerConnection) -> None:
        assert self._link is not None  # noqa: S101  it is what calls
        assert self._receiver is not None  # noqa: S101  set by start
        self._readers = tuple(
            LaneReader(consuming, lane, self._receiver, self._io.post, self._link.fail) for lane in Lane
        )
        self._watch(self._inboxes)
        self._backoff.reset()
        self._state = True
        CONNECTED.set(1)
        CONNECTIONS.inc()
        where = f"{self._connection.host}:{self._connection.port}"
        _LOG.info("connected to the broker", extra={"broker": where})
        self._tell(True, f"connected to the broker at {where}")
        self._publisher.resume()

    def _down(self, reason: BaseException) -> None:
        if self._link is not None:
            self._ending.add(self._link)
        self._link = None
        self._readers = ()
        self._publisher.detach()
        self._io.later(self._backoff.pause_s(), self._connect)
        CONNECTED.set(0)
        error = diagnose(reason, self._connection, self._clock)
        news, self._state = type(error) is not self._state, type(error)
        now = self._clock.monotonic()
        if news or now >= self._remind_at:
            self._remind_at = now + _REMIND_S
            _LOG.warning("no connection to the broker, will keep trying", extra={"error": str(error)})
        if news:
            self._tell(False, str(error))

    def _gone(self, link: Link) -> None:
        self._ending.discard(link)
        if self._finishing and not self._ending:
            self._io.stop()

    def _watch(self, inboxes: tuple[Inbox, ...]) -> None:
        self._inboxes = inboxes
        for reader in self._readers:
            reader.read(inboxes)

    def _tell(self, connected: bool, detail: str) -> None:  # noqa: FBT001  the signature of ConnectionListener
        if self._listener is not None:
            self._listener(connected, detail)

    def _fault(self, error: BaseException) -> None:
        if self._finishing:
            self._io.stop()
        elif self._link is not None:
            self._link.fail(error)

    def _finish(self) -> None:
        """Begin to close: wait a moment for confirms, then hang up."""
        self._finishing = True
        if self._state is True:
            self._publisher.when_idle(self._hang_up)
            self._io.later(self._timeouts.stop_s / 2, self._hang_up)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the link in good order, or by force if the broker does not answer in time."""
        self._publisher.fail(self._closed_error("publish"))
        self._readers = ()
        link, self._link = self._link, None
        if link is not None:
            self._ending.add(link)
            link.hang_up()
            self._io.later(self._timeouts.stop_s / 2, partial(self._force, link))
        elif not self._ending:
            self._io.stop()

    def _force(self, link: Link) -> None:
        TIMEOUTS.labels("stop_s").inc()
        link.drop()
