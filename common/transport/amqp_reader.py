"""Read queues over AMQP, and believe only what came from whom the queue says."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import pika

from common.limits import BULK_TOTAL, MESSAGE_BYTES
from common.metrics import MESSAGE_BYTES as RECEIVED_BYTES
from common.metrics import MESSAGES, REFUSED_MESSAGES
from common.transport.amqp_connection import BrokerConnection
from common.transport.base import PREFETCH, Delivery, Receiver
from common.transport.topology import Inbox, Lane, letter_id

_LOG: Final = logging.getLogger(__name__)

_RECEIVED: Final = {
    lane: (MESSAGES.labels(lane, "received"), RECEIVED_BYTES.labels(lane, "received")) for lane in Lane
}
_FORBIDDEN: Final = 403
_MISSING: Final = 404

Post = Callable[[Callable[[], None]], None]
"""Runs a function on the I/O thread: now if called there, soon if called elsewhere."""


class LaneReader:
    """The queues of one lane, on one channel of one connection. Lives on the I/O thread.

    A queue that is not there, or that this party may not read, costs the broker's closing of the channel. It is then left
    out, the channel is opened again for the others, and `read` tries it again.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        lane: Lane,
        receiver: Receiver,
        post: Post,
        on_lost: Callable[[BaseException], None],
    ) -> None:
        self._connection = connection
        self._lane = lane
        self._receiver = receiver
        self._post = post
        self._on_lost = on_lost
        self._channel: Any = None
        self._wanted: list[Inbox] = []
        self._absent: set[Inbox] = set()
        self._consumers: dict[Inbox, str] = {}
        self._asked: deque[Inbox] = (
            deque()
        )  # consumers that the broker has not granted yet; pika asks one at a time

    def read(self, inboxes: Iterable[Inbox]) -> None:
        """Read exactly these queues of the lane, absent ones included if they are there now."""
        self._wanted = [inbox for inbox in inboxes if inbox.lane is self._lane]
        self._absent.clear()
        if self._channel is None and self._wanted:
            self._open()
        elif self._channel is not None and self._channel.is_open:
            self._consume()

    def _open(self) -> None:
        self._consumers.clear()
        self._asked.clear()
        self._channel = self._connection.channel(on_open_callback=self._on_open)
        self._channel.add_on_close_callback(self._on_close)
        self._channel.add_on_cancel_callback(self._on_cancel)

    def _on_open(self, _channel: Any) -> None:
        self._consume()

    def _consume(self) -> None:
        for inbox in self._consumers.keys() - set(self._wanted):
            self._channel.basic_cancel(self._consumers.pop(inbox))
        fresh = [
            inbox for inbox in self._wanted if inbox not in self._consumers and inbox not in self._absent
        ]
        if fresh:
            self._channel.basic_qos(prefetch_count=self._prefetch())
        for inbox in fresh:
            self._asked.append(inbox)
            self._consumers[inbox] = self._channel.basic_consume(
                inbox.queue,
                partial(self._on_message, inbox),
                callback=lambda _frame: self._asked.popleft(),
            )

    def _prefetch(self) -> int:
        """Return how many messages of a queue are handed over at once; of many bulk queues fewer each, as they are large."""
        if self._lane is not Lane.BULK:
            return PREFETCH[self._lane]
        return max(1, min(PREFETCH[self._lane], BULK_TOTAL // len(self._wanted)))

    def _on_close(self, _channel: Any, reason: BaseException) -> None:
        code = reason.reply_code if isinstance(reason, pika.exceptions.ChannelClosedByBroker) else 0
        if code not in {_FORBIDDEN, _MISSING} or not self._asked:
            self._on_lost(reason)
            return
        self._leave_out(self._asked[0])
        self._open()

    def _on_cancel(self, frame: Any) -> None:
        """Note that the broker deleted a queue."""
        for inbox, tag in self._consumers.items():
            if tag == frame.method.consumer_tag:
                del self._consumers[inbox]
                self._leave_out(inbox)
                return

    def _leave_out(self, inbox: Inbox) -> None:
        self._absent.add(inbox)
        _LOG.warning("a queue cannot be read; it is left out for now", extra={"queue": inbox.queue})

    def _on_message(
        self, inbox: Inbox, channel: Any, method: Any, properties: pika.BasicProperties, body: bytes
    ) -> None:
        if properties.user_id != inbox.sender:
            self._refuse(inbox, channel, method, body, "forged", claimed=properties.user_id)
        elif len(body) > MESSAGE_BYTES:
            self._refuse(inbox, channel, method, body, "oversize", size_bytes=len(body))
        else:
            messages, size = _RECEIVED[inbox.lane]
            messages.inc()
            size.inc(len(body))
            end = partial(self._end, channel, method.delivery_tag)
            delivery = Delivery(
                sender=inbox.sender,
                lane=inbox.lane,
                body=body,
                redelivered=method.redelivered,
                ack=partial(self._post, partial(end, accepted=True)),
                reject=partial(self._post, partial(end, accepted=False)),
            )
            try:
                self._receiver(delivery)
            except Exception:  # noqa: BLE001  a fault in one handler must not end the connection for all
                _LOG.exception("the receiver failed; the message is set aside", extra={"queue": inbox.queue})
                self._refuse(inbox, channel, method, body, "failed")

    def _end(self, channel: Any, tag: int, *, accepted: bool) -> None:
        if channel.is_open:  # otherwise the broker delivers it again on the next connection
            if accepted:
                channel.basic_ack(tag)
            else:
                channel.basic_reject(tag, requeue=False)

    def _refuse(
        self, inbox: Inbox, channel: Any, method: Any, body: bytes, reason: str, **facts: object
    ) -> None:
        REFUSED_MESSAGES.labels(reason).inc()
        facts |= {"queue": inbox.queue, "reason": reason, "letter": letter_id(body)}
        _LOG.warning("a message was refused", extra=facts)
        self._end(channel, method.delivery_tag, accepted=False)
