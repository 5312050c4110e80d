"""Read the training plans that researchers want to run here, and decide about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from common.errors import PlanSourceError, WarrenError
from common.limits import PLAN_SOURCE_BYTES
from common.messages import PlanState
from node.approval import Plan
from node.argument_limits import LIMITS, NUMBERS, Limit
from node.gui.area import BODY_BYTES, Area, get, post
from node.gui.paging import slice_of
from node.gui.people import Role
from node.gui.source import diff_lines, source_lines
from node.gui.texts import t
from node.gui.visit import Visit
from node.steward.plans import NOTE_LENGTH, Plans

ARGUMENTS: Final = (*sorted(NUMBERS), "round", "loader_args.batch_size", "optimizer_args.lr")
"""What the page proposes to limit; others can be typed."""
_FREE_ROWS: Final = 2


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit as it stands in a form, right or not."""

    argument: str = ""
    operator: str = "<="
    bound: str = ""

    @classmethod
    def of(cls, limit: Limit) -> LimitRow:
        """Return a limit as it is typed."""
        return cls(limit.argument, limit.operator, f"{limit.bound:.15g}")

    @property
    def empty(self) -> bool:
        """Tell whether nothing is typed."""
        return not (self.argument or self.bound)

    def __str__(self) -> str:
        return f"{self.argument}{self.operator}{self.bound}"


def listing(visit: Visit) -> Response:
    """Show the plans: those that wait first, then the others, the latest request first."""
    state, search = visit.query("state"), visit.query("search")
    plans = sorted(_plans(visit).list(), key=lambda plan: plan.state is not PlanState.PENDING)
    found = [plan for plan in plans if state in ("", plan.state) and _says(plan, search.lower())]
    filters = {"state": state, "search": search}
    rows = slice_of(found, visit.number("page"), path="/plans", filters=filters)
    return visit.show(
        "plans.html",
        rows=rows,
        state=state,
        search=search,
        known=len(plans),
        required=visit.home.policy().plan_approval,
    )


def history(visit: Visit) -> Response:
    """Show every request and decision, the latest first."""
    search = visit.query("search")
    wanted = search.lower()
    found = [
        event
        for event in _plans(visit).decisions()
        if wanted in "\n".join((event.name, event.plan_hash, event.actor, event.note)).lower()
    ]
    rows = slice_of(found, visit.number("page"), path="/plans/history", filters={"search": search})
    return visit.show("plan_history.html", rows=rows, search=search)


def reading(visit: Visit) -> Response:
    """Show all that a person should see before deciding about a plan."""
    return _shown(visit)


def approve(visit: Visit) -> Response:
    """Let a plan run here, within limits; or show one more row for a limit, if that is what was asked for."""
    rows = _limit_rows(visit)
    if visit.field("do") == "more":
        return _shown(visit, limits=rows, more=True)
    try:
        plan = _plans(visit).approve(
            visit.path("plan"), note=_note(visit), limits=[str(row) for row in rows if not row.empty]
        )
    except WarrenError as error:
        return _refused(visit, error, rows)
    return visit.go(f"/plans/{plan.plan_hash}", said=t("plans.was_approved", name=plan.name))


def reject(visit: Visit) -> Response:
    """Forbid a plan to run here, or take an approval back."""
    try:
        plan = _plans(visit).reject(visit.path("plan"), note=_note(visit))
    except WarrenError as error:
        return _refused(visit, error, _limit_rows(visit))
    return visit.go(f"/plans/{plan.plan_hash}", said=t("plans.was_rejected", name=plan.name))


def new(visit: Visit) -> Response:
    """Show the form for a plan that nobody asked for."""
    return _new(visit)


def add(visit: Visit) -> Response:
    """Approve a plan that the people of the node hold themselves: a file, or text."""
    try:
        source, origin = _given(visit)
        plan = _plans(visit).approve_source(source, origin=origin, note=_note(visit))
    except WarrenError as error:
        return _new(visit, status=422, problem=error)
    return visit.go(f"/plans/{plan.plan_hash}", said=t("plans.was_approved", name=plan.name))


def _plans(visit: Visit) -> Plans:
    return Plans(visit.home, visit.by)


def _says(plan: Plan, wanted: str) -> bool:
    return wanted in "\n".join((plan.name, plan.plan_hash, plan.requested_by, plan.request_note)).lower()


def _refused(visit: Visit, error: WarrenError, rows: Sequence[LimitRow]) -> Response:
    """Show the plan again, with what was typed and what is wrong with it."""
    return _shown(visit, limits=rows, note=_note(visit), problem=error, status=422)


def _shown(
    visit: Visit,
    *,
    limits: Sequence[LimitRow] | None = None,
    more: bool = False,
    note: str | None = None,
    problem: WarrenError | None = None,
    status: int = 200,
) -> Response:
    found = _plans(visit).read(visit.path("plan"))
    typed = list(limits if limits is not None else map(LimitRow.of, found.plan.limits))
    free = sum(row.empty for row in typed)
    typed += [LimitRow()] * min(_FREE_ROWS if more else _FREE_ROWS - free, LIMITS - len(typed))
    return visit.show(
        "plan.html",
        status=status,
        found=found,
        plan=found.plan,
        source=source_lines(found.plan.source),
        changes=tuple(diff_lines(found.difference)),
        pointed={remark.line for remark in found.remarks},
        limits=typed,
        note=_note(visit) if note is None else note,
        problem=problem,
        arguments=ARGUMENTS,
        note_length=NOTE_LENGTH,
    )


def _limit_rows(visit: Visit) -> list[LimitRow]:
    """Return the limits of a form.

    Raises:
        HTTPException: If they are no rows.
    """
    columns = [
        [value.strip() for value in visit.form.getlist(name) if isinstance(value, str)]
        for name in ("argument", "operator", "bound")
    ]
    if len({len(column) for column in columns}) != 1:
        raise HTTPException(400)
    return [LimitRow(*row) for row in zip(*columns, strict=True)]


def _note(visit: Visit) -> str:
    return visit.field("note").replace("\r\n", "\n")


def _new(visit: Visit, *, status: int = 200, problem: WarrenError | None = None) -> Response:
    text = visit.secret_field("source").replace("\r\n", "\n")
    return visit.show(
        "plan_new.html",
        status=status,
        text=text,
        note=_note(visit),
        problem=problem,
        note_length=NOTE_LENGTH,
    )


def _given(visit: Visit) -> tuple[str, str]:
    """Return the plan that a form brought, and where it comes from: the file if there is one, else the text.

    Raises:
        PlanSourceError: If the file is not text.
    """
    file = visit.form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        return visit.secret_field("source").replace("\r\n", "\n"), t("plans.typed")
    try:
        return file.file.read(PLAN_SOURCE_BYTES + 1).decode("utf-8"), file.filename[:100]
    except UnicodeDecodeError as error:
        raise PlanSourceError(plan=file.filename[:100], reason="it is not text") from error


AREA: Final = Area(
    "plans",
    (
        get("/plans", Role.VIEWER, listing),
        get("/plans/history", Role.VIEWER, history),
        get("/plans/new", Role.MANAGER, new),
        post("/plans/new", Role.MANAGER, add, body_bytes=2 * BODY_BYTES),
        get("/plans/{plan}", Role.VIEWER, reading),
        post("/plans/{plan}/approve", Role.MANAGER, approve),
        post("/plans/{plan}/reject", Role.MANAGER, reject),
    ),
    icon="plans",
)
