"""Set up logging once per process: readable in a terminal, JSON lines everywhere else.

A log call has a constant message and passes its facts as `extra={...}`; both formats show them.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, TextIO

from common.text import visible, visible_lines

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record carries, as opposed to the facts of one call."""

_JSON: Final = json.JSONEncoder(default=str, ensure_ascii=False)
_STDERR: Final = sys.stderr
_FILE_BYTES: Final = 10 * 1024 * 1024
_FILES_KEPT: Final = 5
_COLOURS: Final = {"DEBUG": 2, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}
_QUIET: Final = {"pika": logging.CRITICAL, "urllib3": logging.WARNING, "matplotlib": logging.WARNING}
"""Lowest level of libraries that say too much; what pika reports as an error, our transport tells once, in words."""


def configure(
    level: int | str = logging.INFO, *, file: Path | None = None, stream: TextIO | None = _STDERR
) -> None:
    """Send all log records of this process to a stream, to a file, or to both; replaces earlier settings.

    Args:
        level: Lowest level that is shown.
        file: Where JSON lines are kept; rotated at 10 MiB, five old ones stay. Its folder must exist.
        stream: Where records are shown: coloured lines if it is a terminal, JSON lines otherwise. None shows nothing.
    """
    handlers: list[logging.Handler] = []
    if stream is not None:
        shown = _Stderr() if stream is _STDERR else logging.StreamHandler(stream)
        shown.setFormatter(PrettyFormatter() if stream.isatty() else JsonFormatter())
        shown.setLevel(level)
        handlers.append(shown)
    if file is not None:
        handlers.append(_file_handler(file))
    logging.basicConfig(level=level, handlers=handlers or [logging.NullHandler()], force=True)
    logging.captureWarnings(capture=True)
    for name, lowest in _QUIET.items():
        logging.getLogger(name).setLevel(lowest)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what is standard error at that moment: a live view puts something of its own there, which keeps it whole."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        pass


@contextmanager
def kept(file: Path) -> Iterator[None]:
    """Keep records from INFO on in a file too, as long as the block lasts; what is shown stays as it is.

    Args:
        file: Where; rotated at 10 MiB, five old ones stay. Its folder must exist.
    """
    root, handler = logging.getLogger(), _file_handler(file)
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def _file_handler(file: Path) -> logging.Handler:
    handler = _Kept(file, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    return handler


class _Kept(RotatingFileHandler):
    """Looks at the size of the file alone; the standard one writes each record twice to find out, and asks the disk twice."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: ARG002, N802 - the name of the standard library
        """Tell whether the file is full."""
        return self.stream is not None and self.stream.tell() >= self.maxBytes


def facts(record: logging.LogRecord) -> dict[str, object]:
    """Return what a log call passed as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _OWN}


class JsonFormatter(logging.Formatter):
    """Write a record as one line of JSON: time, level, logger, message, facts, traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "at": _moment(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _JSON.encode(line)


class PrettyFormatter(logging.Formatter):
    """Write a record for a person at a terminal: local time, level, message, `key=value` facts; nothing in them moves the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback if there is one."""
        shown = facts(record)
        shown.pop("action", None)  # the message says it in words
        parts = [
            _moment(record).astimezone().strftime("%H:%M:%S"),
            f"\x1b[{_COLOURS.get(record.levelname, 0)}m{record.levelname.lower():<8}\x1b[0m",
            visible(record.getMessage()),
            *(f"\x1b[2m{key}=\x1b[0m{visible(str(value))}" for key, value in shown.items()),
        ]
        text = " ".join(parts)
        return f"{text}\n{visible_lines(self.formatException(record.exc_info))}" if record.exc_info else text


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, tz=UTC)
