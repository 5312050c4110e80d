"""Look after the agent, the policy and the certificate, and read the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from common.errors import FederationError, InvalidSettingsError
from common.ids import Digest
from common.security.expiry import WARN_DAYS
from common.security.kit import Kit, fingerprint
from node.gui import detached
from node.gui.area import Area, get, post
from node.gui.paging import slice_of
from node.gui.people import Role
from node.gui.texts import t
from node.gui.visit import Visit
from node.policy import Policy
from node.status import read_status
from node.steward.agents import AgentControl
from node.steward.policies import PolicyFile

LOG_LINES: Final = 2000
"""Lines from the end of the log that can be looked through; the whole of it is in the file."""
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
AWAY_S: Final = 6
"""How long an agent takes to restart, page included."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the policy: its name, what it says, what it means, and whether that is the default."""

    name: str
    value: str
    meaning: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log: when, how grave, what, and the facts."""

    at: str
    level: str
    message: str
    facts: str


def settings(visit: Visit) -> Response:
    """Show the agent, the certificate and what the policy says, right or wrong."""
    kit, problem = _kit(visit)
    pid = visit.home.holder()
    found = PolicyFile(visit.home, visit.by).read()
    return visit.show(
        "settings.html",
        pid=pid,
        agent=None if pid is None else read_status(visit.home.status_path),
        connection=visit.home.connection(),
        kit=kit,
        fingerprint=fingerprint(kit.certificate) if kit else "",
        days_left=kit.days_left(visit.site.clock.now()) if kit else 0,
        warn_days=WARN_DAYS,
        kit_problem=problem,
        policy=tuple(_lines_of(found.policy)) if found.policy else (),
        policy_problem=found.problem.facts["problems"] if found.problem else "",
    )


def start(visit: Visit) -> Response:
    """Start the agent in the background."""
    pid = AgentControl(visit.home, visit.by).start()
    return visit.go("/settings", said=t("settings.started", pid=pid))


def stop(visit: Visit) -> Response:
    """Stop the agent; a page that lives beside it ends, too."""
    if visit.site.beside is not None:
        detached.begin(visit.home, "stop", by=visit.by, listen=visit.site.beside)
        return visit.show("away.html", comes_back=False)
    outcome = AgentControl(visit.home, visit.by).stop()
    return visit.go("/settings", said=t("settings.stopped", outcome=outcome))


def restart(visit: Visit) -> Response:
    """Stop the agent and start it again, so that it reads its policy."""
    if visit.site.beside is not None:
        detached.begin(visit.home, "restart", by=visit.by, listen=visit.site.beside)
        return visit.go("/settings/away")
    pid = AgentControl(visit.home, visit.by).restart().pid
    return visit.go("/settings", said=t("settings.started", pid=pid))


def away(visit: Visit) -> Response:
    """Show that the page comes back by itself."""
    answer = visit.show("away.html", comes_back=True)
    answer.headers["refresh"] = f"{AWAY_S}; url=/settings"
    return answer


def editor(visit: Visit) -> Response:
    """Show the policy as text."""
    found = PolicyFile(visit.home, visit.by).read()
    problems = found.problem.facts["problems"] if found.problem else ""
    return _editor(visit, found.text, found.sha256, problems=problems)


def edit(visit: Visit) -> Response:
    """Say what another text of the policy would change, or put it in the place of the old one."""
    file, seen = PolicyFile(visit.home, visit.by), Digest(visit.field("seen"))
    text = visit.secret_field("text").replace("\r\n", "\n")
    try:
        if visit.field("do") == "save":
            file.replace(text, seen=seen)
            return visit.go("/settings", said=t("settings.saved"))
        made = file.check(text)
    except InvalidSettingsError as error:
        return _editor(visit, text, seen, problems=error.facts["problems"], status=422)
    before = file.read().policy
    changes = tuple(_differences(before, made)) if before else ()
    return _editor(visit, text, seen, changes=changes, checked=True)


def log(visit: Visit) -> Response:
    """Show the end of the agent's log, the newest line first."""
    level, search = visit.query("level", "debug"), visit.query("search")
    graver = LEVELS[LEVELS.index(level) :] if level in LEVELS else LEVELS
    tail = AgentControl(visit.home, visit.by).log_tail(LOG_LINES)
    lines = [
        line
        for line in map(_log_line, reversed(tail or ()))
        if line.level in graver and search.lower() in f"{line.message} {line.facts}".lower()
    ]
    filters = {"level": level, "search": search}
    rows = slice_of(lines, visit.number("page"), path="/settings/log", filters=filters, size=100)
    facts = {
        "rows": rows,
        "levels": [(one, one) for one in LEVELS],
        "path": visit.home.log_path,
        "ran": tail is not None,
    }
    return visit.show("log.html", status=200, level=level, search=search, **facts)


def _editor(
    visit: Visit,
    text: str,
    seen: str,
    *,
    problems: str = "",
    changes: tuple[tuple[str, str, str], ...] = (),
    checked: bool = False,
    status: int = 200,
) -> Response:
    facts = {"text": text, "seen": seen, "problems": problems, "changes": changes, "checked": checked}
    return visit.show("policy.html", status=status, file=visit.home.settings_path, **facts)


def _kit(visit: Visit) -> tuple[Kit | None, str]:
    """Return the kit, or why it cannot be used."""
    try:
        return visit.home.kit(now=visit.site.clock.now()), ""
    except FederationError as error:
        return None, error.text.format(**error.facts)


def _lines_of(policy: Policy) -> Iterator[Setting]:
    for name, value in policy.model_dump(mode="json").items():
        meaning = Policy.model_fields[name].description or ""
        yield Setting(name, _shown(value), meaning, name not in policy.model_fields_set)


def _differences(before: Policy, after: Policy) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that another policy changes: name, value now, value then."""
    now, then = before.model_dump(mode="json"), after.model_dump(mode="json")
    for name in then:
        if now[name] != then[name]:
            yield name, _shown(now[name]), _shown(then[name])


def _shown(value: object) -> str:
    return t("settings.not_set") if value is None else json.dumps(value)


def _log_line(text: str) -> LogLine:
    """Return a line of the log; one that a crash cut off is shown as it is."""
    try:
        facts = json.loads(text)
    except ValueError:
        return LogLine("", "info", text, "")
    at, level, message = (str(facts.pop(name, "")) for name in ("at", "level", "message"))
    return LogLine(at, level, message, ", ".join(f"{name}={value}" for name, value in facts.items()))


AREA: Final = Area(
    "settings",
    (
        get("/settings", Role.VIEWER, settings),
        post("/settings/agent/start", Role.ADMIN, start),
        post("/settings/agent/stop", Role.ADMIN, stop),
        post("/settings/agent/restart", Role.ADMIN, restart),
        get("/settings/away", Role.VIEWER, away),
        get("/settings/policy", Role.ADMIN, editor),
        post("/settings/policy", Role.ADMIN, edit),
        get("/settings/log", Role.MANAGER, log),
    ),
    icon="settings",
)
