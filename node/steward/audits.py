"""What the people of a node do with its audit log: look, check, take a copy."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from common.audit.glance import glance
from common.audit.record import Action, Entry, Record, line_of
from common.audit.selection import Selected, Selection
from common.audit.verify import Verdict, read_records, verify
from common.text import visible
from node.home import NodeHome

_COLUMNS: Final = tuple(Record.model_fields)
_LINES: Final = 500
_FORMULA: Final = tuple("=+-@\t\uff1d\uff0b\uff0d\uff20")
"""How a cell begins that a spreadsheet would compute (OWASP, CSV injection)."""


@dataclass(frozen=True, slots=True)
class Audits:
    """The audit log of a node, in the hands of one person.

    Attributes:
        home: The node.
        by: The name of the person, for the log itself.
    """

    home: NodeHome
    by: str

    def look(self, wanted: Selection, *, most: int, skipped: int = 0) -> Selected:
        """Return the last records that are wanted, oldest first, without checking the chain.

        Raises:
            AuditBrokenError: If a record cannot be read.
        """
        return glance(self.home.audit_path, wanted, most=most, skipped=skipped)

    def verify(self) -> Verdict:
        """Check all of the log.

        Raises:
            AuditBrokenError: If anything is wrong; says what.
        """
        return verify(self.home.audit_path)

    def lines(self) -> Iterator[bytes]:
        """Return the whole log as JSON Lines, which `audit verify` checks by itself, after checking and recording it.

        Raises:
            AuditBrokenError: If the log is not in order, or the copy cannot be recorded; nothing is handed out.
        """
        return _pieces(map(line_of, self._copied("all as JSON Lines")))

    def table(self, wanted: Selection) -> Iterator[bytes]:
        """Return the records that are wanted as CSV for a spreadsheet, after checking the log and recording it.

        No cell is a formula, and nothing hides: such a cell begins with an apostrophe, what hides is shown as an escape.

        Raises:
            AuditBrokenError: As `lines` does.
        """
        records = self._copied("some as CSV")
        return _pieces(_rows(record for record in records if wanted.takes(record)))

    def _copied(self, what: str) -> Iterator[Record]:
        """Check the log, record that a copy of it is handed out, and return its records until then."""
        count = self.verify().records
        self.home.audit().append(
            Entry(action=Action.AUDIT_EXPORTED, actor=f"person {self.by}", count=count, note=what)
        )
        return islice(read_records(self.home.audit_path), count)


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Return lines in larger pieces: what sends them takes its time for each."""
    while piece := b"".join(islice(lines, _LINES)):
        yield piece


def _rows(records: Iterator[Record]) -> Iterator[bytes]:
    yield _csv_line(_COLUMNS)
    for record in records:
        facts = record.model_dump(mode="json")
        yield _csv_line(tuple(_cell(facts[name]) for name in _COLUMNS))


def _csv_line(cells: tuple[str, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8")


def _cell(value: object) -> str:
    """Return a value as a cell that says what it is and computes nothing."""
    if value is None:
        return ""
    if isinstance(value, list):
        return _cell(" ".join(map(str, value)))
    text = visible(str(value))
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
