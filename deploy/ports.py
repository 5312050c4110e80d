"""Find free TCP ports and keep them free until a child process takes them."""

from __future__ import annotations

import random
import socket
from types import TracebackType
from typing import Final, Self

from common.errors import PortTakenError

_LOWEST: Final = 15_000
_HIGHEST: Final = 32_000
"""Below the range that Linux hands out to outgoing connections, so nothing takes such a port by accident."""


class Reservation:
    """TCP ports that are bound, but not listened on, until this is closed.

    A server that sets SO_REUSEADDR, as Erlang's do, can bind and listen on them meanwhile; a program that asks the system
    for any free port does not get them.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._held: list[socket.socket] = []

    def take(self, port: int) -> int:
        """Reserve one given port, also if connections of a server that has just ended linger on it.

        Raises:
            PortTakenError: If it is in use, or not ours to use.
        """
        return self._bind(port, alone=False)

    def take_any(self) -> int:
        """Reserve a free port that nobody else has reserved, in this process or another.

        Raises:
            PortTakenError: If a hundred ports in a row are taken.
        """
        ports = random.SystemRandom().sample(range(_LOWEST, _HIGHEST), 100)
        for port in ports[:-1]:
            try:
                return self._bind(port, alone=True)
            except PortTakenError:
                continue
        return self._bind(ports[-1], alone=True)

    def _bind(self, port: int, *, alone: bool) -> int:
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Two sockets that both set it may bind the same port as long as neither listens.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not alone)
            holder.bind((self._host, port))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # lets the server bind beside it
        except OSError as error:
            holder.close()
            raise PortTakenError(host=self._host, port=port, reason=error.strerror) from error
        self._held.append(holder)
        return port

    def close(self) -> None:
        """Let go of all ports."""
        while self._held:
            self._held.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def free_port() -> int:
    """Return a TCP port that nothing on the loopback uses now.

    Raises:
        PortTakenError: If none is to be had.
    """
    with Reservation() as reservation:
        return reservation.take_any()
