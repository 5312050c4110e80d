"""Find out whether a party may use the broker, without anybody else noticing."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterable
from typing import Final

import pika

from common.clock import SystemClock
from common.settings import Connection
from common.transport.amqp_connection import diagnose, parameters
from common.transport.topology import Inbox, exchange

_NOBODY: Final = "nobody.doctor"
"""A routing key that no queue is bound to: the broker gives such a message back to its sender."""


def probe(connection: Connection, context: ssl.SSLContext, inboxes: Iterable[Inbox]) -> float:
    """Log in, write to the party's own exchange, begin to read its own queues, and leave again.

    What waits in the queues stays there, marked as delivered before.

    Returns:
        Seconds that a message took to the broker and back.

    Raises:
        WarrenError: If the broker cannot be reached or refuses any of it.
    """
    try:
        link = pika.BlockingConnection(parameters(connection, context, "doctor"))
        try:
            channel = link.channel()
            channel.confirm_delivery()
            started = time.monotonic()
            with contextlib.suppress(
                pika.exceptions.UnroutableError
            ):  # as it must be: the message comes back
                channel.basic_publish(exchange(connection.party), _NOBODY, b"", mandatory=True)
            taken_s = time.monotonic() - started
            channel.basic_qos(prefetch_count=1)
            for inbox in inboxes:
                channel.basic_cancel(channel.basic_consume(inbox.queue, lambda *_: None))
        finally:
            if link.is_open:
                link.close()
    except (pika.exceptions.AMQPError, OSError) as error:
        raise diagnose(error, connection, SystemClock()) from error
    return taken_s
