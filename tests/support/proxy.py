"""Stand between a client and a server, and break the line in the ways that networks do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from types import TracebackType
from typing import Final, Literal, Self

Way = Literal["up", "down"]
"""From the client to the server, or back."""

_PIECE_BYTES: Final = 64 * 1024
_PIECES: Final = 64
"""Pieces that are under way at once, each way on each connection."""


class Proxy:
    """A TCP proxy on a free loopback port. All methods are thread-safe; faults hold for both directions.

    `cut` ends every connection; `refuse` and `accept` decide about new ones; `freeze` lets nothing through and closes
    nothing, as a firewall that forgot the connection; `thaw` undoes it; `delay` holds all data back for a while; `rate` lets
    no more than so many bytes a second through, each way and on all connections together; `passed` counts what went through.
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
        self._rate: float | None = None
        self._free_at: dict[Way, float] = {"up": 0.0, "down": 0.0}
        self._passed: dict[Way, int] = {"up": 0, "down": 0}
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

    def rate(self, bytes_per_s: float | None) -> None:
        self._rate = bytes_per_s

    def passed(self, way: Way) -> int:
        """How many bytes the client sent (`up`) or got (`down`)."""
        with self._lock:
            return self._passed[way]

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
        back = threading.Thread(target=self._pump, args=(server, client, "down"), name="proxy", daemon=True)
        back.start()
        self._pump(client, server, "up")
        back.join()
        self._end(pair)
        for one in pair:
            one.close()

    def _pump(self, source: socket.socket, target: socket.socket, way: Way) -> None:
        """Move data one way as a long line does: read at its rate here, and write after its delay on another thread."""
        line: Queue[tuple[float, bytes]] = Queue(_PIECES)
        writer = threading.Thread(target=self._write, args=(line, target, way), name="proxy", daemon=True)
        writer.start()
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                self._closed.wait(self._serialised(way, len(data)) - time.monotonic())
                line.put((time.monotonic() + self._delay_s, data))
        line.put((0.0, b""))
        writer.join()
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _write(self, line: Queue[tuple[float, bytes]], target: socket.socket, way: Way) -> None:
        broken = False
        while (piece := line.get())[1]:
            due, data = piece
            if broken:
                continue  # so that the reader is not held up
            self._closed.wait(due - time.monotonic())
            self._flowing.wait()
            try:
                target.sendall(data)
            except OSError:
                broken = True
            else:
                with self._lock:
                    self._passed[way] += len(data)

    def _serialised(self, way: Way, size: int) -> float:
        """Return when the line has taken so many more bytes, behind those of other connections."""
        with self._lock:
            begin = max(time.monotonic(), self._free_at[way])
            self._free_at[way] = begin + (size / self._rate if self._rate else 0.0)
            return self._free_at[way]

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
