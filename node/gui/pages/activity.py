"""See what the node does for researchers, what left it, and stop what nobody here wants."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from common.audit.record import Action, Record
from common.audit.selection import Selection
from common.errors import NoSuchTaskError, TaskCancelledError
from node.gui.area import Area, get, post
from node.gui.curves import HEIGHT, WIDTH, curve_of
from node.gui.paging import slice_by
from node.gui.people import Role
from node.gui.texts import t
from node.gui.visit import Visit
from node.steward.agents import AgentControl
from node.steward.datasets import Datasets
from node.steward.tasks import LEAVES, Tasks
from node.task_events import Phase

OUTCOMES: Final = ("trained", "failed", "stopped")
_UNSENT: Final = (*(Phase.RECEIVED, Phase.WAITING, Phase.RUNNING), Phase.ANSWERED)


@dataclass(frozen=True, slots=True)
class Filters:
    """What narrows down a table of tasks, as the query has it."""

    search: str
    researcher: str
    dataset: str
    outcome: str = ""


def activity(visit: Visit) -> Response:
    """Show the tasks that are not done with, and those that ended."""
    tasks, filters = Tasks(visit.home, visit.by), _filters(visit)
    wanted = _wanted(filters)

    def fetch(most: int, skipped: int) -> tuple[tuple[object, ...], int]:
        past = tasks.past(most, skipped=skipped, wanted=wanted)
        return past.tasks, past.count

    return visit.show(
        "activity.html",
        open_tasks=[task for task in tasks.open() if task.phase in _UNSENT],
        found=AgentControl(visit.home, visit.by).report(),
        rows=slice_by(fetch, visit.number("page"), path="/activity", filters=asdict(filters)),
        names=_names(visit),
        filters=filters,
        stopped=TaskCancelledError.code,
    )


def task(visit: Visit) -> Response:
    """Show all that is known of a task: what was asked, where it stands, its losses, what left."""
    found = Tasks(visit.home, visit.by).find(visit.path("task"))
    asked = next((step for step in found.steps if step.action is Action.TASK_ASKED), None)
    left = [step for step in found.steps if step.action in LEAVES]
    return visit.show(
        "task.html",
        found=found,
        task=found.open,
        asked=asked,
        facts=found.open or asked or found.steps[0],
        researcher=_researcher(asked, left) if found.open is None else found.open.researcher,
        ended=left[-1] if left else None,
        left=left,
        curve=curve_of(found.losses),
        size=(WIDTH, HEIGHT),
        names=_names(visit),
        stopped=TaskCancelledError.code,
    )


def ask_cancel(visit: Visit) -> Response:
    """Ask whether a task is really to be stopped."""
    found = Tasks(visit.home, visit.by).find(visit.path("task"))
    if found.open is None or not found.open.can_stop:
        raise NoSuchTaskError(task=found.task_id)
    return visit.show("task_cancel.html", task=found.open, names=_names(visit))


def cancel(visit: Visit) -> Response:
    """Stop a task."""
    tasks = Tasks(visit.home, visit.by)
    task_id = tasks.cancel(tasks.find(visit.path("task")).task_id)
    return visit.go(f"/activity/{task_id}", said=t("activity.was_cancelled"))


def left(visit: Visit) -> Response:
    """Show what left the node, and how much."""
    tasks, filters = Tasks(visit.home, visit.by), _filters(visit)
    wanted = Selection(
        party=filters.researcher or None, dataset_id=filters.dataset or None, about=filters.search or None
    )

    def fetch(most: int, skipped: int) -> tuple[tuple[Record, ...], int]:
        found = tasks.left(wanted, most=most, skipped=skipped)
        return found.records[::-1], found.count

    return visit.show(
        "left.html",
        rows=slice_by(fetch, visit.number("page"), path="/activity/left", filters=asdict(filters)),
        sums=sorted(tasks.updates_by_dataset().items(), key=lambda one: -one[1].bytes),
        names=_names(visit),
        filters=filters,
    )


def _filters(visit: Visit) -> Filters:
    """Return what the query asks for.

    Raises:
        HTTPException: If it asks for an outcome that there is not.
    """
    outcome = visit.query("outcome")
    if outcome and outcome not in OUTCOMES:
        raise HTTPException(400)
    return Filters(visit.query("search"), visit.query("researcher"), visit.query("dataset"), outcome)


def _wanted(filters: Filters) -> Selection:
    actions = {
        "": None,
        "trained": frozenset({Action.UPDATE_RELEASED}),
        "failed": frozenset({Action.TASK_FAILED}),
        "stopped": frozenset({Action.TASK_FAILED}),
    }
    return Selection(
        actions=actions[filters.outcome],
        code=TaskCancelledError.code if filters.outcome == "stopped" else None,
        party=filters.researcher or None,
        dataset_id=filters.dataset or None,
        about=filters.search or None,
    )


def _names(visit: Visit) -> dict[str, str]:
    """Return the names of the data sets by their ids."""
    return {one.dataset_id: one.name for one in Datasets(visit.home, visit.by).list()}


def _researcher(asked: Record | None, left: list[Record]) -> str:
    """Return who asked for a task that is done with; empty if the log does not say."""
    if asked is not None:
        return asked.actor
    return next((party for one in left for party in one.parties or ()), "")


AREA: Final = Area(
    "activity",
    (
        get("/activity", Role.VIEWER, activity),
        get("/activity/left", Role.VIEWER, left),
        get("/activity/{task}", Role.VIEWER, task),
        get("/activity/{task}/cancel", Role.MANAGER, ask_cancel),
        post("/activity/{task}/cancel", Role.MANAGER, cancel),
    ),
    icon="activity",
)
