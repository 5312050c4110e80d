"""Stand between a client and a server, and break the line in the ways that networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """A TCP proxy on a free loopback port. All methods are thread-safe; faults hold for both directions.

    `cut` ends every connection; `refuse` and `accept` decide about new ones; `freeze` lets nothing through and closes
    nothing, as a firewall that forgot the connection; `thaw` undoes it; `delay` holds each piece back for a while.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads: list[threading.Thread] = []
        self._accepting = True
        self._refusals = threading.Semaphore(0)
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = threading.Event()
        self._delay_s = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._pairs)

    def cut(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def refuse(self) -> None:
        """Cut, and end every new connection at once."""
        self._accepting = False
        self.cut()

    def await_refusals(self, count: int, *, deadline_s: float = 30.0) -> None:
        """Wait until so many more connections were refused."""
        for _ in range(count):
            assert self._refusals.acquire(timeout=deadline_s), "nobody tried to connect"

    def accept(self) -> None:
        self._accepting = True

    def freeze(self) -> None:
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        self._delay_s = seconds

    def close(self) -> None:
        """End everything and join every thread."""
        self._accepting = False
        self._closed.set()
        self._flowing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="proxy", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._accepting:
                client.close()
                self._refusals.release()
                continue
            self._spawn(self._join, client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        if not self._accepting:
            self._end(pair)
        back = threading.Thread(target=self._pump, args=(server, client), name="proxy", daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        self._end(pair)
        for one in pair:
            one.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._delay_s:
                    self._closed.wait(self._delay_s)
                self._flowing.wait()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
