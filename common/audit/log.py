"""Append to an audit log: a folder of files of JSON lines, each named by the number of its first record.

Files are only ever appended to, and never removed; a full one is followed by another, and the chain goes on. Beside the folder lies
the *anchor*: number and hash of the last record that is surely on disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.audit.anchor import Anchor, read_anchor, write_anchor
from common.audit.record import FIRST, LINE_BYTES, Action, Entry, Record, chained
from common.clock import Clock, SystemClock
from common.errors import AuditBrokenError, DiskFullError
from common.ids import PartyId
from common.security.files import sync_folder

FILE_BYTES: Final = 16 * 2**20
"""Size at which a file is followed by another."""

_SUFFIX: Final = ".jsonl"
_FORMAT: Final = "warren audit 1"
_CUT: Final = "a record that a crash cut off was removed"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class _End:
    """Where a log ends: its newest file, the size of that, and its last record; nothing of it before the first."""

    path: Path | None = None
    size: int = 0
    last: Anchor | None = None
    cut: int = 0
    """Bytes behind the last record, which a crash left."""


class AuditLog:
    """The audit log in a folder. Thread-safe; several processes may append to the same log."""

    def __init__(
        self,
        folder: Path,
        party: PartyId,
        *,
        clock: Clock | None = None,
        forward: Callable[[Record], None] | None = None,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        """Name a log; nothing is read or written before the first `append`.

        Args:
            folder: Where it is; made when it is needed.
            party: Who keeps it.
            clock: Tells the time.
            forward: Is given each record that this object wrote, in order.
            file_bytes: Size at which a file is followed by another.
        """
        self._folder = folder
        self._lock = folder / ".lock"
        self._party = party
        self._clock = clock or SystemClock()
        self._forward = forward
        self._file_bytes = file_bytes
        self._thread = threading.Lock()
        self._known = _End()

    def append(self, *entries: Entry, durable: bool = True) -> None:
        """Write entries as the next records.

        Args:
            entries: What happened, in order; none writes nothing.
            durable: Whether they must survive a power cut when this returns. If not, they survive the death of the process, and
                the next durable append makes them safe too.

        Raises:
            AuditBrokenError: If the log does not end where its anchor says; nothing was written.
            DiskFullError: If there is no space; nothing was written.
        """
        if not entries:
            return
        with self._thread, self._alone():
            written = self._append(entries, durable=durable)
        if self._forward is not None:
            for line in written:
                self._forward(Record.model_validate_json(line))

    def _append(self, entries: tuple[Entry, ...], *, durable: bool) -> list[bytes]:
        end = self._end()
        first = () if end.last else (Entry(action=Action.LOG_BEGUN, actor=self._party, note=_FORMAT),)
        cut = (Entry(action=Action.LOG_REPAIRED, actor=self._party, bytes=end.cut, note=_CUT),)
        begun, previous = (end.last.number + 1, end.last.sha256) if end.last else (0, FIRST)
        lines: list[bytes] = []
        for number, entry in enumerate((*first, *(cut if end.cut else ()), *entries), start=begun):
            previous, line = chained(
                entry, number=number, at=self._clock.now(), party=self._party, previous=previous
            )
            lines.append(line)
        path, size = end.path, end.size
        if path is None or size >= self._file_bytes:
            path, size = self._folder / f"{begun:016d}{_SUFFIX}", 0
            if end.path is not None:
                _sync(end.path)
            durable = True
        data = b"".join(lines)
        self._known = _End()  # unless all goes well, it is to be looked at again
        with _disk_errors(path):
            _write(path, data, size, durable=durable)
            last = Anchor(begun + len(lines) - 1, previous)
            if durable:
                write_anchor(self._folder, last)
        self._known = _End(path, size + len(data), last)
        return lines

    def _end(self) -> _End:
        """Return where the log ends, looking only at what another process has changed."""
        known = self._known
        if known.path is not None and known.size < self._file_bytes and _size(known.path) == known.size:
            return (
                known  # whoever had appended would have changed this file, or begun another after it was full
            )
        end = _look(self._folder)
        anchor = read_anchor(self._folder)
        if anchor is None and end.last is not None and end.last.number > 0:
            raise AuditBrokenError(path=self._folder, reason="its anchor is missing")
        if anchor is not None:
            _check_end(self._folder, end, anchor)
        return end

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out."""
        with _disk_errors(self._folder):
            try:
                descriptor = _open_lock(self._lock)
            except FileNotFoundError:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                descriptor = _open_lock(self._lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _check_end(folder: Path, end: _End, anchor: Anchor) -> None:
    """Refuse a log that lost its end. What is before the end is for `verify`."""
    if end.last is None or end.last.number < anchor.number:
        last = "nothing" if end.last is None else f"record {end.last.number}"
        raise AuditBrokenError(
            path=folder, reason=f"it ends with {last}, its anchor names record {anchor.number}"
        )
    if end.last.number == anchor.number and end.last != anchor:
        raise AuditBrokenError(
            path=folder, reason=f"record {anchor.number} is not the one that its anchor names"
        )


def _look(folder: Path) -> _End:
    """Read where a log ends from its files."""
    cut = 0
    for path in sorted(folder.glob(f"*{_SUFFIX}"), reverse=True):
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - 2 * LINE_BYTES))
            tail = file.read()
        whole = tail.rfind(b"\n") + 1
        cut += len(tail) - whole
        if whole:
            line = tail[:whole].rstrip(b"\n").rpartition(b"\n")[2]
            return _End(path, size - (len(tail) - whole), _place(path, line), cut)
        if len(tail) != size:
            raise AuditBrokenError(path=path, reason="its end holds no record")
        path.unlink()  # a first line that a crash cut off; `cut` tells of it
    return _End(cut=cut)


def _place(path: Path, line: bytes) -> Anchor:
    try:
        record = Record.model_validate_json(line)
    except ValueError as error:
        raise AuditBrokenError(path=path, reason="its last record cannot be read") from error
    return Anchor(record.number, record.sha256)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _write(path: Path, data: bytes, size: int, *, durable: bool) -> None:
    """Append to the first `size` bytes of a file; after a failure it has these and nothing more."""
    new = size == 0 and not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size != size:
            os.ftruncate(descriptor, size)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], size + written)
            if durable:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(path=path) from error
        raise
