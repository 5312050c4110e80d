"""Run pika's I/O loop on a thread of its own, and let everybody else post to it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from pika.adapters.select_connection import IOLoop

_LOG: Final = logging.getLogger(__name__)

Command = Callable[[], None]


class IoThread:
    """A thread that runs one I/O loop until told to stop.

    `post` is thread-safe; the rest is for the thread itself, save for `start` and `join`.
    """

    def __init__(self, name: str, on_fault: Callable[[BaseException], None]) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._on_fault = on_fault
        self._commands: deque[Command] = deque()
        self._woken = False
        self._stopped = False
        self._loop: IOLoop | None = None

    @property
    def loop(self) -> IOLoop:
        """Return the loop; it exists from `start` on."""
        assert self._loop is not None  # noqa: S101  a mistake of this package, not of a caller
        return self._loop

    def post(self, command: Command) -> None:
        """Run a command on the thread: at once if called there, else soon, in the order of posting.

        Commands that are posted close together cost one wake-up. Before `start` they wait.
        """
        if threading.get_ident() == self._thread.ident:
            command()
            return
        self._commands.append(command)
        if self._loop is not None and not self._woken:
            self._woken = True
            self._loop.add_callback_threadsafe(self.drain)

    def drain(self) -> None:
        """Run what was posted. Only for the thread itself, or for the owner of one that never started."""
        self._woken = False  # first, so that a command that comes in now wakes the loop again
        for _ in range(
            len(self._commands)
        ):  # those that come in now wait for the next turn: I/O must get its own
            self._commands.popleft()()

    def start(self, first: Command) -> None:
        """Start the thread with a first command."""
        self._commands.appendleft(first)
        self._loop = IOLoop()
        self._loop.add_callback_threadsafe(self.drain)
        self._thread.start()

    def later(self, delay_s: float, command: Command) -> None:
        """Run a command after a delay."""
        self.loop.call_later(delay_s, command)

    def stop(self) -> None:
        """End the loop after what is being done."""
        self._stopped = True
        self.loop.stop()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.loop.start()
            except Exception as error:  # noqa: BLE001  a fault in pika or in a listener must not end the transport
                _LOG.exception("a fault on the thread of the transport")
                self._on_fault(error)
                self.loop.add_callback_threadsafe(self.drain)
        self.loop.close()
