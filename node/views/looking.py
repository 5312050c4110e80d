"""Look at data for a person: what can be drawn of it, no more than can be shown, and recorded before it is."""

from __future__ import annotations

import base64
from typing import Final

from pydantic import JsonValue

from node.steward.looks import Looks, Subject
from node.views.figures import Glimpse, Summary
from node.views.pictures import sheet
from node.views.traces import traces

_LONGEST: Final = 200
"""Characters of a text that are shown."""


def glimpse(looks: Looks, subject: Subject, *, rows: int, columns: int) -> Glimpse:
    """Return the first samples, with pictures and signals where they have some.

    Raises:
        InvalidDatasetError: If an option is wrong; names every mistake.
        DataError: If they cannot be read.
        MissingExtraError: If a library is not installed.
        AuditBrokenError: If the look cannot be recorded; nothing is shown.
    """
    drawn = sheet(subject.path, subject.data_type, subject.options)
    lines = traces(subject.path, subject.data_type, subject.options)
    shown = tuple(
        {name: _short(value) for name, value in list(row.items())[:columns]}
        for row in looks.rows(subject, rows)
    )
    if drawn is None:
        return Glimpse(rows=shown, traces=lines)
    png = base64.b64encode(drawn.png).decode()
    return Glimpse(rows=shown, tiles=drawn.tiles, sheet=png, traces=lines)


def summary(looks: Looks, subject: Subject) -> Summary:
    """Return counts of all samples.

    Raises:
        InvalidDatasetError: As `glimpse` does.
        DataError: As `glimpse` does.
        MissingExtraError: As `glimpse` does.
        AuditBrokenError: As `glimpse` does.
    """
    from node.views import summaries  # polars, which the other looks may not need

    found = summaries.summary(subject.path, subject.data_type, subject.options)
    looks.record(subject, "summary")
    return found


def _short(value: JsonValue) -> JsonValue:
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value
