"""Look through the dead letters of a federation, put them back, or remove them.

Only the registrar may. Bodies are sealed, so it sees what the broker and the envelope tell: who wrote to whom, when, how
much. The party that refused a letter has the reason in its log, under the same id.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC
from types import TracebackType
from typing import Any, Final, Self

import pika
import pika.exceptions

from common.clock import Clock, SystemClock
from common.errors import QueueFullError, UnroutableError
from common.security.sealing import addressees
from common.settings import Connection
from common.transport.amqp_connection import diagnose, parameters
from common.transport.topology import DEAD, Inbox, Lane, inbox_named, letter_id

_SYSTEM: Final = SystemClock()
_REQUEUED: Final = "requeued"
_PERSISTENT: Final = 2


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that its recipient refused.

    Attributes:
        id: Names it here and in the log of the party that refused it.
        inbox: Where it was refused; none if the broker does not say.
        user: Who wrote it, as the broker saw it or let it be said.
        reason: Why the broker set it aside: `rejected` by the recipient, `expired`, `maxlen`.
        died_at: Unix time, of the first time since it was last put back.
        requeued: How often it was put back before.
        size_bytes: Length of its body.
        recipients: Whom its envelope names; none if it is not a sealed message.
    """

    id: str
    inbox: Inbox | None
    user: str | None
    reason: str
    died_at: float | None
    requeued: int
    size_bytes: int
    recipients: tuple[str, ...]


class DeadLetters:
    """The dead letters of one federation; a context manager that holds a connection. Not thread-safe.

    What is neither put back nor removed stays where it is, in its order.
    """

    def __init__(self, connection: Connection, context: ssl.SSLContext, *, clock: Clock = _SYSTEM) -> None:
        """Say where; nothing is sent before the object is entered.

        Args:
            connection: That of the registrar.
            context: Its certificate.
            clock: Tells the time.
        """
        self._settings = connection
        self._context = context
        self._clock = clock
        self._connection: Any = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            TransportError: If the broker cannot be reached or refuses.
        """
        wanted = parameters(self._settings, self._context, "dead letters")
        wanted.blocked_connection_timeout = self._settings.timeouts.connect_s
        try:
            self._connection = pika.BlockingConnection(wanted)
        except (pika.exceptions.AMQPError, OSError) as error:
            raise diagnose(error, self._settings, self._clock) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect; the broker puts back what was only looked at."""
        if self._connection.is_open:
            self._connection.close()

    def all(self) -> list[DeadLetter]:
        """Return all of them, the oldest first.

        Raises:
            TransportError: If the broker refuses or goes away.
        """
        return [letter for letter, _ in self._each(lambda *_: False)]

    def requeue(self, wanted: Collection[str]) -> list[DeadLetter]:
        """Put the letters with these ids, every copy of each, back where they were refused, and return them.

        A letter leaves the dead ones only when the broker has it in its queue again.

        Raises:
            UnroutableError: If the queue of a letter is gone; it stays, and those after it.
            QueueFullError: If the queue of a letter is full; likewise.
            TransportError: If the broker refuses or goes away.
        """

        def put_back(channel: Any, letter: DeadLetter, properties: pika.BasicProperties, body: bytes) -> bool:
            if letter.id not in wanted:
                return False
            _put_back(channel, letter, properties, body)
            return True

        return [letter for letter, moved in self._each(put_back) if moved]

    def drop(self, wanted: Collection[str]) -> list[DeadLetter]:
        """Remove the letters with these ids for good, and return them.

        Raises:
            TransportError: If the broker refuses or goes away.
        """
        return [
            letter for letter, gone in self._each(lambda _channel, letter, *_: letter.id in wanted) if gone
        ]

    def _each(self, settle: Callable[..., bool]) -> list[tuple[DeadLetter, bool]]:
        """Do something with each letter; those for which it returns true are removed."""
        found = []
        try:
            channel = self._connection.channel()
            channel.confirm_delivery()
            for tag, properties, body in _taken(channel):
                letter = _letter(properties, body)
                removed = settle(channel, letter, properties, body)
                if removed:
                    channel.basic_ack(tag)
                found.append((letter, removed))
            channel.close()  # the broker puts back what was not acknowledged
        except pika.exceptions.AMQPError as error:
            raise diagnose(error, self._settings, self._clock) from error
        return found


def _taken(channel: Any) -> Iterator[tuple[int, pika.BasicProperties, bytes]]:
    """Yield what is there now, not what comes while it is looked at: a letter that was put back may die again."""
    remaining = 1
    method, properties, body = channel.basic_get(DEAD)
    if method is not None:
        remaining += method.message_count
    while method is not None and remaining:
        yield method.delivery_tag, properties, body
        remaining -= 1
        if remaining:
            method, properties, body = channel.basic_get(DEAD)


def _letter(properties: pika.BasicProperties, body: bytes) -> DeadLetter:
    headers = properties.headers or {}
    deaths = headers.get("x-death") or [{}]  # the broker's own; the last death comes first
    died_at = deaths[0].get("time")
    return DeadLetter(
        id=letter_id(body),
        inbox=_inbox(deaths[0].get("queue")),
        user=properties.user_id,
        reason=deaths[0].get("reason", "unknown"),
        died_at=died_at.replace(tzinfo=UTC).timestamp() if died_at else None,
        requeued=_whole(headers.get(_REQUEUED)),
        size_bytes=len(body),
        recipients=_addressees(body),
    )


def _put_back(channel: Any, letter: DeadLetter, properties: pika.BasicProperties, body: bytes) -> None:
    if letter.inbox is None:  # somebody else than the federation's queues sent it here
        raise UnroutableError(recipient="the dead letter", lane=Lane.CONTROL)
    recipient, lane = letter.inbox.recipient, letter.inbox.lane
    again = pika.BasicProperties(
        delivery_mode=_PERSISTENT,
        user_id=properties.user_id,
        content_type=properties.content_type,
        headers={_REQUEUED: letter.requeued + 1},
    )
    try:
        channel.basic_publish("", letter.inbox.queue, body, again, mandatory=True)
    except pika.exceptions.UnroutableError as error:
        raise UnroutableError(recipient=recipient, lane=lane) from error
    except pika.exceptions.NackError as error:
        raise QueueFullError(recipient=recipient, lane=lane) from error


def _inbox(queue: str | None) -> Inbox | None:
    try:
        return inbox_named(queue or "")
    except ValueError:
        return None


def _addressees(body: bytes) -> tuple[str, ...]:
    try:
        return addressees(body)
    except ValueError:
        return ()


def _whole(value: object) -> int:
    """Return a header that a sender could have written as well."""
    return value if isinstance(value, int) and value > 0 else 0
