"""Keep what workers print, so that no plan can fill the disk with it or make lines up.

Each line of `log/worker.log` begins with a time and a run; characters that a terminal would act on are escaped.
"""

from __future__ import annotations

import logging
import os
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from common.ids import RunId
from common.text import visible
from node.worker.pace import Bucket

_FILE_BYTES: Final = 10 * 1024 * 1024
_FILES_KEPT: Final = 3
_LINE_BYTES: Final = 4096
"""Longer lines are cut into several."""
_READ_BYTES: Final = 64 * 1024
_READ_PER_S: Final = 1024 * 1024
"""A worker that prints faster than this has to wait."""
_KEPT_BURST: Final = 1024 * 1024
_KEPT_PER_S: Final = 8 * 1024
"""What is beyond this is left out, and that is said: one worker shall not push the lines of others out of the file."""


class WorkerLog:
    """The file into which the output of all workers goes. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open the file; it is rotated at 10 MiB, and three old ones stay."""
        self._file = RotatingFileHandler(
            path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8"
        )
        self._file.setFormatter(logging.Formatter("%(asctime)s %(run)s %(message)s"))
        self._lock = threading.Lock()
        self._closed = False

    def follow(self, run_id: RunId, pipe: int, over: threading.Event) -> None:
        """Keep what comes out of a pipe until all that write to it are gone; closes the pipe.

        Args:
            run_id: The run that the writers work for.
            pipe: File descriptor of its reading end.
            over: Set when the worker has ended; nothing is paced any more then.
        """
        kept, read = Bucket(_KEPT_BURST, _KEPT_PER_S), Bucket(_READ_BYTES, _READ_PER_S)
        rest, lost = b"", 0
        with os.fdopen(pipe, "rb", buffering=0) as stream:
            while data := stream.read(_READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > _LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                if kept.take(len(data)):
                    lost += len(data)
                else:
                    self._write(run_id, lines, lost)
                    lost = 0
                read.admit(len(data), over)
        self._write(run_id, [rest] if rest else [], lost)

    def close(self) -> None:
        """Close the file; what comes later is dropped. Idempotent."""
        with self._lock:
            self._closed = True
            self._file.close()

    def _write(self, run_id: RunId, lines: list[bytes], lost: int) -> None:
        texts = [f"({lost} bytes were printed too fast and left out)"] if lost else []
        texts += [
            visible(line[at : at + _LINE_BYTES].decode(errors="backslashreplace"))
            for line in lines
            for at in range(0, max(1, len(line)), _LINE_BYTES)
        ]
        with self._lock:
            for text in () if self._closed else texts:
                self._file.handle(logging.makeLogRecord({"msg": text, "run": run_id}))
