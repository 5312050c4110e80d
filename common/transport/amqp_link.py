"""Hold one pair of connections to the broker, from the attempt to open it to its end."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from pika.adapters.select_connection import IOLoop

from common.settings import Connection
from common.transport.amqp_connection import BrokerConnection, parameters


class Link:
    """Two connections, one to publish and one to consume, that live and die together. Lives on the I/O thread.

    A broker short of memory stops reading from connections that publish, and acknowledgements must still get through:
    so there are two.

    Reports at most once that it is `up` (both open), at most once that it is `down` (either failed), and at last that it
    is `gone` (both closed, nothing of it is left). After `drop` or `hang_up` only `gone` follows.
    """

    def __init__(
        self,
        connection: Connection,
        context: ssl.SSLContext,
        loop: IOLoop,
        *,
        prepare: Callable[[BrokerConnection, Callable[[], None], Callable[[BaseException], None]], None],
        on_up: Callable[[BrokerConnection], None],
        on_down: Callable[[BaseException], None],
        on_gone: Callable[[Link], None],
    ) -> None:
        """Begin to open both.

        Args:
            connection: Where the broker is.
            context: TLS, with the certificate of this party.
            loop: The I/O loop to live on.
            prepare: Gets the connection to publish on when it is open, and what to call when it is ready or has failed.
            on_up: Gets the connection to consume on when both are ready.
            on_down: Gets the reason.
            on_gone: Gets this link.
        """
        self._connection, self._context, self._loop = connection, context, loop
        self._prepare, self._on_up, self._on_down, self._on_gone = prepare, on_up, on_down, on_gone
        self._over = False
        self._waits_for = 2
        self._alive: set[BrokerConnection] = set()
        self._open("publish", lambda publishing: self._prepare(publishing, self._ready, self.fail))
        self._consuming = self._open("consume", lambda _consuming: self._ready())

    def _open(self, purpose: str, on_open: Callable[[BrokerConnection], None]) -> BrokerConnection:
        one = BrokerConnection(
            parameters(self._connection, self._context, purpose),
            on_open_callback=on_open,
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            custom_ioloop=self._loop,
        )
        self._alive.add(one)
        return one

    def fail(self, reason: BaseException) -> None:
        """Drop both connections, since something on one of them is broken."""
        if not self._over:
            self.drop()
            self._on_down(reason)

    def drop(self) -> None:
        """End both at once, without waiting for the broker."""
        self._over = True
        for one in list(self._alive):
            one.drop()

    def hang_up(self) -> None:
        """End both in good order: what was written still arrives."""
        self._over = True
        for one in list(self._alive):
            if one.is_open:
                one.close()
            elif not one.is_closing:
                one.drop()

    def _ready(self) -> None:
        self._waits_for -= 1
        if self._waits_for == 0 and not self._over:
            self._on_up(self._consuming)

    def _ended(self, one: BrokerConnection, reason: BaseException) -> None:
        self._alive.discard(one)
        self.fail(reason)
        if not self._alive:
            self._on_gone(self)
