"""Publish over AMQP: keep every body, in order, until the broker has it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Final

import pika

from common.errors import QueueFullError, UnroutableError, WarrenError
from common.ids import PartyId
from common.metrics import (
    BLOCKED,
    MESSAGE_BYTES,
    MESSAGES,
    REFUSED_MESSAGES,
    RESENT_MESSAGES,
    UNCONFIRMED_MESSAGES,
)
from common.transport.amqp_connection import BrokerConnection
from common.transport.outgoing import Outgoing
from common.transport.topology import Lane, exchange, routing_key

_LOG: Final = logging.getLogger(__name__)

_SENT: Final = {lane: (MESSAGES.labels(lane, "sent"), MESSAGE_BYTES.labels(lane, "sent")) for lane in Lane}
_RESENT: Final[dict[Lane, Any]] = {
    lane: RESENT_MESSAGES.labels(lane) for lane in Lane if lane is not Lane.TELEMETRY
}
_TRANSIENT: Final = 1
_PERSISTENT: Final = 2


class Publisher:
    """The sending half of a transport; it outlives connections. Lives on the I/O thread.

    What was sent and not confirmed when a connection ends is sent again on the next one, in the same order and before
    everything newer. The broker may then have it twice.
    """

    def __init__(self, party: PartyId, on_blocked: Callable[[str], None]) -> None:
        self._party = party
        self._on_blocked = on_blocked
        self._waiting: deque[Outgoing] = deque()
        self._sent: dict[
            int, Outgoing
        ] = {}  # by delivery tag, in the order of sending; confirms come in any order
        self._returned: set[int] = set()
        self._last_tag = 0
        self._confirmed: Any = None
        self._unconfirmed: Any = None
        self._open = False
        self._blocked = False
        self._on_idle: Callable[[], None] | None = None
        UNCONFIRMED_MESSAGES.set_function(lambda: len(self._waiting) + len(self._sent))

    def attach(
        self,
        connection: BrokerConnection,
        on_ready: Callable[[], None],
        on_lost: Callable[[BaseException], None],
    ) -> None:
        """Open the channels on a new connection; `resume` begins to send on them."""

        def confirm(channel: Any) -> None:
            channel.confirm_delivery(self._on_confirm, callback=lambda _frame: second())

        def second() -> None:
            self._unconfirmed = connection.channel(on_open_callback=lambda _channel: on_ready())
            self._unconfirmed.add_on_close_callback(lambda _channel, reason: on_lost(reason))

        connection.add_on_connection_blocked_callback(self._block)
        connection.add_on_connection_unblocked_callback(self._unblock)
        self._last_tag = 0
        self._confirmed = connection.channel(on_open_callback=confirm)
        self._confirmed.add_on_return_callback(self._on_return)
        self._confirmed.add_on_close_callback(lambda _channel, reason: on_lost(reason))

    def resume(self) -> None:
        """Send what waits."""
        self._open = True
        self._flush()

    def detach(self) -> None:
        """Take back what the lost connection did not confirm."""
        self._open = self._blocked = False
        BLOCKED.set(0)
        for item in self._sent.values():
            _RESENT[item.lane].inc()
        self._waiting.extendleft(reversed(self._sent.values()))
        self._sent.clear()
        self._returned.clear()

    def add(self, item: Outgoing) -> None:
        """Send a body, now or as soon as the broker takes it; telemetry goes now or never."""
        if item.lane is not Lane.TELEMETRY:
            self._waiting.append(item)
            self._flush()
        elif self._open and not self._blocked:
            self._send(self._unconfirmed, item, pika.BasicProperties(delivery_mode=_TRANSIENT))
            _count(item)

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back once nothing is left to send or to be confirmed, now if so."""
        self._on_idle = callback
        self._check_idle()

    def fail(self, error: WarrenError) -> None:
        """Give up everything that is not confirmed."""
        self.detach()
        while self._waiting:
            self._waiting.popleft().fail(error)

    def _flush(self) -> None:
        while self._waiting and self._open and not self._blocked:
            item = self._waiting.popleft()
            self._last_tag += 1
            self._sent[self._last_tag] = item
            self._send(
                self._confirmed,
                item,
                # the id only lets a returned message be told from its neighbours
                pika.BasicProperties(delivery_mode=_PERSISTENT, message_id=str(self._last_tag)),
                mandatory=True,
            )

    def _send(
        self, channel: Any, item: Outgoing, properties: pika.BasicProperties, *, mandatory: bool = False
    ) -> None:
        first, *others = [routing_key(recipient, item.lane) for recipient in item.recipients]
        properties.user_id = self._party  # the broker refuses any other name than the one of the certificate
        properties.content_type = "application/octet-stream"
        if others:
            properties.headers = {"CC": others}
        channel.basic_publish(exchange(self._party), first, item.body, properties, mandatory=mandatory)

    def _on_return(self, _channel: Any, _method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        self._returned.add(int(properties.message_id))  # its confirm follows

    def _on_confirm(self, frame: Any) -> None:
        last = frame.method.delivery_tag
        tags = list(takewhile(lambda tag: tag <= last, self._sent)) if frame.method.multiple else [last]
        accepted = isinstance(frame.method, pika.spec.Basic.Ack)
        for tag in tags:
            item = self._sent.pop(tag, None)
            if item is not None:
                self._end(item, returned=tag in self._returned, accepted=accepted)
            self._returned.discard(tag)

        self._check_idle()

    def _check_idle(self) -> None:
        if self._on_idle is not None and not self._waiting and not self._sent:
            callback, self._on_idle = self._on_idle, None
            callback()

    def _end(self, item: Outgoing, *, returned: bool, accepted: bool) -> None:
        recipient = ", ".join(item.recipients)
        if returned:
            REFUSED_MESSAGES.labels("unroutable").inc()
            item.fail(UnroutableError(recipient=recipient, lane=item.lane))
        elif not accepted:
            REFUSED_MESSAGES.labels("full").inc()
            item.fail(QueueFullError(recipient=recipient, lane=item.lane))
        else:
            _count(item)
            item.succeed()

    def _block(self, _connection: Any, frame: Any) -> None:
        self._blocked = True
        BLOCKED.set(1)
        _LOG.warning("the broker takes no messages for now", extra={"reason": frame.method.reason})
        self._on_blocked(f"the broker takes no messages for now: {frame.method.reason}")

    def _unblock(self, _connection: Any, _frame: Any) -> None:
        self._blocked = False
        BLOCKED.set(0)
        _LOG.info("the broker takes messages again")
        self._on_blocked("the broker takes messages again")
        self._flush()


def _count(item: Outgoing) -> None:
    messages, size = _SENT[item.lane]
    messages.inc()
    size.inc(len(item.body))
