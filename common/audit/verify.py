"""Read audit logs, and find out whether something is wrong with them.

What a log alone shows: that a record was changed, removed, inserted or moved, unless all that follows was written anew. What its anchor
shows besides: that the end was cut off, or that records up to the anchor were written anew. Whoever may write to the folder may
write the anchor too, so against that person only an anchor helps that is kept elsewhere: told to syslog, or written down. Of the
records behind the last anchor that is kept elsewhere nothing can be proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.audit.anchor import Anchor, read_anchor
from common.audit.record import LINE_BYTES, Record, line_of, read_chain
from common.errors import AuditBrokenError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a log that is in order.

    Attributes:
        records: How many there are.
        end: The last of them; None if there are none.
        anchored: Number of the last record that an anchor vouches for; None if there was no anchor.
        unfinished_bytes: Bytes behind the last record: one that is being written, or that a crash cut off.
    """

    records: int
    end: Anchor | None
    anchored: int | None
    unfinished_bytes: int


def read_records(source: Path) -> Iterator[Record]:
    """Yield the records of a log, in order and each checked against the one before.

    Args:
        source: The folder of a log, or a file that `export` wrote.

    Raises:
        AuditBrokenError: At the first record that is not as it was written.
    """
    yield from read_chain(_Lines(source), source=str(source))


def verify(source: Path, *anchors: Anchor) -> Verdict:
    """Check all of a log.

    Args:
        source: The folder of a log, whose own anchor counts too, or a file that `export` wrote.
        anchors: Places that were noted elsewhere.

    Raises:
        AuditBrokenError: If anything is wrong; says what.
    """
    own = read_anchor(source) if source.is_dir() else None  # before the records, which may grow meanwhile
    known = (*anchors, *((own,) if own else ()))
    lines, end, count = _Lines(source), None, 0
    for record in read_chain(lines, source=str(source)):
        end, count = Anchor(record.number, record.sha256), count + 1
        if any(anchor.number == end.number and anchor != end for anchor in known):
            raise AuditBrokenError(
                path=source, reason=f"record {end.number} is not the one that an anchor names"
            )
    highest = max((anchor.number for anchor in known), default=None)
    if highest is not None and highest >= count:
        raise AuditBrokenError(
            path=source, reason=f"it has {count} records, and an anchor names record {highest}"
        )
    if own is None and source.is_dir() and count > 1:
        raise AuditBrokenError(path=source, reason="its anchor is missing")
    return Verdict(count, end, highest, lines.unfinished_bytes)


def export(source: Path, target: Path) -> Verdict:
    """Write all records of a log into one new file, checking them; nothing remains after a failure.

    Raises:
        AuditBrokenError: If the log is not in order.
        FileExistsError: If the target exists.
    """
    verdict = verify(source)
    with target.open("xb") as file:
        for record in read_records(source):
            file.write(line_of(record))
            if verdict.end is not None and record.number == verdict.end.number:
                break
    return verdict


class _Lines:
    """The whole lines of a log."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self.unfinished_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        # the folder of a log is made with its first record
        paths = [self._source] if self._source.is_file() else sorted(self._source.glob("*.jsonl"))
        for path in paths:
            with path.open("rb") as file:
                while line := file.readline(LINE_BYTES):
                    if line.endswith(b"\n"):
                        yield line
                    elif path == paths[-1] and not file.read(1):
                        self.unfinished_bytes = len(line)
                    else:
                        raise AuditBrokenError(path=path, reason="it holds a line without an end")
