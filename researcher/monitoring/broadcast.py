"""Let other processes of the same home look on while an experiment runs: one local socket for each that runs.

Whoever connects is told how the round stands, then each event as it happens, so nothing is polled. A reader that is too slow is let go:
the round never waits for it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from common.errors import NotRunningError
from common.ids import ExperimentId, PartyId
from researcher.home import Home
from researcher.monitoring.events import (
    Event,
    NodeProgress,
    RoundEnded,
    RoundOpened,
    RunStarted,
    TaskLost,
    UpdateArrived,
)
from researcher.monitoring.lines import event_of, line_of

_BEHIND_BYTES: Final = 4 * 1024 * 1024
"""A reader that is further behind is let go."""


class Broadcast:
    """An observer that tells others; use it as a context."""

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        home.running.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = home.running / f"{experiment}.events"
        self._path.unlink(missing_ok=True)  # of a process that died
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _Short(home, experiment) as path:
            self._listener.bind(path)
        self._listener.listen()
        self._lock = threading.Lock()
        self._readers: set[socket.socket] = set()
        self._run: list[
            Event
        ] = []  # what whoever comes now must be told of the run, and of each node in the open round
        self._nodes: dict[PartyId, Event] = {}
        self._thread = threading.Thread(target=self._accept, name="broadcast", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._listener.close()
        for reader in self._readers:
            reader.close()

    def on_event(self, event: Event) -> None:
        """Tell an event to all who look on."""
        with self._lock:
            match event:
                case RunStarted():
                    self._run, self._nodes = [event], {}
                case RoundOpened():
                    self._run = [*(one for one in self._run if not isinstance(one, RoundOpened)), event]
                    self._nodes = {}
                case RoundEnded():
                    self._run = [*(one for one in self._run if isinstance(one, RunStarted)), event]
                    self._nodes = {}
                case NodeProgress(node=node) | TaskLost(node=node):
                    self._nodes[node] = event
                case UpdateArrived(record=record):
                    self._nodes[record.node] = event
                case _:
                    pass
            if self._readers:
                line = line_of(event)
                for reader in list(self._readers):
                    self._tell(reader, line)

    def _accept(self) -> None:
        while True:
            try:
                reader, _ = self._listener.accept()
            except OSError:  # it was shut down
                return
            reader.setblocking(False)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BEHIND_BYTES)
            with self._lock:
                self._readers.add(reader)
                self._tell(reader, b"".join(map(line_of, [*self._run, *self._nodes.values()])))

    def _tell(self, reader: socket.socket, lines: bytes) -> None:
        sent = 0
        with suppress(OSError):  # it went, or it is too far behind
            sent = reader.send(lines) if lines else 0
        if sent < len(lines):
            self._readers.discard(reader)
            reader.close()


def watch(home: Home, experiment: ExperimentId, name: str) -> Iterator[Event]:
    """Yield how an experiment stands that another process of this home runs, and then what happens, until the run ends.

    Raises:
        NotRunningError: If no process runs it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        try:
            with _Short(home, experiment) as path:
                line.connect(path)
        except OSError as error:
            raise NotRunningError(experiment=name) from error
        with line.makefile("rb") as lines:
            for told in lines:
                yield event_of(told)


class _Short:
    """Names the socket by a path that fits into the 107 bytes that the system allows, wherever the home is."""

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._folder, self._name = home.running, f"{experiment}.events"

    def __enter__(self) -> str:
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._name}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
