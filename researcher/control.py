"""Let other processes of the same home end a run: one named pipe for each experiment that runs.

Whoever runs the experiment reads the pipe, so nothing is polled, and a pipe that nobody reads says that nobody runs it. The lock
on the pipe is held until the run has ended, so whoever asked can wait for that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from common.ids import ExperimentId
from researcher.home import Home

_CANCEL: Final = b"c"
_END: Final = b"e"


class Control:
    """Listens while an experiment runs."""

    def __init__(self, home: Home, experiment: ExperimentId, on_cancel: Callable[[], None]) -> None:
        """Begin to listen; `on_cancel` is called on a thread of its own."""
        home.running.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = home.running / experiment
        self._path.unlink(missing_ok=True)  # of a process that died
        os.mkfifo(self._path, 0o600)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._on_cancel = on_cancel
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; whoever waits for the end of the run goes on."""
        os.write(self._descriptor, _END)
        self._thread.join()
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _listen(self) -> None:
        while (asked := os.read(self._descriptor, 1)) != _END:
            if asked == _CANCEL:
                self._on_cancel()


def is_running(home: Home, experiment: ExperimentId) -> bool:
    """Tell whether a process of this home runs the experiment now."""
    descriptor = _opened(home.running / experiment)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def cancel_running(home: Home, experiment: ExperimentId) -> bool:
    """Ask the process that runs the experiment to end the run, and wait until it has; return False if none runs it."""
    descriptor = _opened(home.running / experiment)
    if descriptor is None:
        return False
    try:
        os.write(descriptor, _CANCEL)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
    return True


def _opened(path: Path) -> int | None:
    """Open a pipe for writing, unless nobody reads it."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
