"""Show how the node is doing and what needs its people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from starlette.responses import Response

from common.security.expiry import WARN_DAYS
from node.gui.area import Area, get
from node.gui.people import Role
from node.gui.texts import t
from node.gui.visit import Visit
from node.process import HomeReport
from node.sandbox import Limits, Protections, WorkerUser, detect, worker_user
from node.steward.agents import AgentControl


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that a person should do: what, how much it matters, and the page where it is done."""

    text: str
    level: str
    path: str | None = None


def overview(visit: Visit) -> Response:
    """Show the state of the agent, and what waits for a decision."""
    found = AgentControl(visit.home, visit.by).report()
    return visit.show("overview.html", found=found, concerns=tuple(concerns(found)), warn_days=WARN_DAYS)


def protections(visit: Visit) -> Response:
    """Show the walls around workers, which are found out by starting a process like one."""
    policy = visit.home.policy()
    user = None if policy.worker_user is None else worker_user(policy.worker_user)
    stand = _walls(policy.worker_limits(), user)
    return visit.show("protections.html", protections=stand, compulsory=policy.compulsory_protections)


def concerns(found: HomeReport) -> Iterator[Concern]:
    """Yield what a person should do about a node, the most urgent first."""
    if found.kit_problem is not None:
        yield Concern(t("overview.kit_broken", problem=found.kit_problem), "bad")
    elif found.kit_days_left is not None and found.kit_days_left < WARN_DAYS:
        yield Concern(t("overview.kit_expires", days=int(found.kit_days_left)), "warn")
    if found.pid is None:
        yield Concern(t("overview.no_agent"), "warn")
    elif found.status is not None:
        if found.status.paused:
            yield Concern(t("overview.paused", why=found.status.paused), "bad")
        if found.status.notice:
            yield Concern(found.status.notice, "warn")
        if not found.status.connected:
            yield Concern(t("overview.not_connected", why=found.status.detail), "warn")
    if found.plans_pending:
        yield Concern(t("overview.plans_wait", count=found.plans_pending), "ask", "/plans")
    if not found.datasets:
        yield Concern(t("overview.no_datasets"), "ask", "/data")


@lru_cache(maxsize=1)
def _walls(limits: Limits, user: WorkerUser | None) -> Protections:
    """Return the walls as they stand; kept, for what a machine offers changes with its kernel only."""
    return detect(limits=limits, user=user)


AREA: Final = Area(
    "overview",
    (
        get("/", Role.VIEWER, overview),
        get("/protections", Role.VIEWER, protections),
    ),
    icon="home",
)
