"""Look through the audit log, check it, and take a copy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from common.audit.record import Action, Record
from common.audit.selection import Selection
from common.audit.verify import Verdict
from common.errors import AuditBrokenError
from node.gui.area import Area, get, post
from node.gui.paging import slice_by
from node.gui.people import Role
from node.gui.visit import Visit
from node.steward.audits import Audits
from node.steward.datasets import Datasets

OUTCOMES: Final = ("done", "refused", "failed")
FILTERS: Final = ("actor", "action", "outcome", "about", "since", "until")


def log(visit: Visit) -> Response:
    """Show the log, the newest record first."""
    audits = Audits(visit.home, visit.by)
    filters = {name: visit.query(name) for name in FILTERS}
    wanted, misread = _wanted(filters)

    def fetch(most: int, skipped: int) -> tuple[tuple[Record, ...], int]:
        found = audits.look(wanted, most=most, skipped=skipped)
        return found.records[::-1], found.count

    return visit.show(
        "audit.html",
        rows=slice_by(fetch, visit.number("page"), path="/audit", filters=filters),
        filters=filters,
        misread=misread,
        actions=[(action.value, action.replace("_", " ")) for action in sorted(Action)],
        names={one.dataset_id: one.name for one in Datasets(visit.home, visit.by).list()},
    )


def verdict(visit: Visit) -> Response:
    """Check all of the log, and show what was found."""
    found: Verdict | None = None
    problem: AuditBrokenError | None = None
    try:
        found = Audits(visit.home, visit.by).verify()
    except AuditBrokenError as error:
        problem = error
    return visit.show("audit_verdict.html", found=found, problem=problem)


def lines(visit: Visit) -> Response:
    """Hand out all of the log as JSON Lines."""
    return _file(visit, Audits(visit.home, visit.by).lines(), "jsonl", "application/jsonl")


def table(visit: Visit) -> Response:
    """Hand out what the filters choose as CSV."""
    wanted, misread = _wanted({name: visit.field(name) for name in FILTERS})
    if misread:
        raise HTTPException(400)
    return _file(visit, Audits(visit.home, visit.by).table(wanted), "csv", "text/csv")


def _file(visit: Visit, content: Iterator[bytes], ending: str, kind: str) -> Response:
    name = f"audit-{visit.site.party}.{ending}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(content, media_type=kind, headers=headers)


def _wanted(filters: dict[str, str]) -> tuple[Selection, tuple[str, ...]]:
    """Return which records are wanted, and the names of filters that are no times and so do not count.

    Raises:
        HTTPException: If there is no such action or outcome.
    """
    action, outcome = filters["action"], filters["outcome"]
    if (action and action not in tuple(Action)) or (outcome and outcome not in OUTCOMES):
        raise HTTPException(400)
    times = {name: _time(filters[name]) for name in ("since", "until")}
    wanted = Selection(
        actor=filters["actor"] or None,
        actions=frozenset({Action(action)}) if action else None,
        outcome=outcome or None,
        about=filters["about"] or None,
        since=times["since"],
        until=times["until"],
    )
    return wanted, tuple(name for name, time in times.items() if time is None and filters[name])


def _time(text: str) -> float | None:
    """Return the Unix time of a moment in the time zone of this machine; None if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        return None


AREA: Final = Area(
    "audit",
    (
        get("/audit", Role.VIEWER, log),
        get("/audit/verify", Role.VIEWER, verdict),
        post("/audit/lines", Role.VIEWER, lines),
        post("/audit/table", Role.VIEWER, table),
    ),
    icon="audit",
)
