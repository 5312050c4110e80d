"""Log in and out, and join by a link that works once."""

from __future__ import annotations

from math import ceil
from typing import Final

from starlette.responses import Response

from common.audit.record import Action
from common.errors import AccountError
from node.gui.area import Area, get, post
from node.gui.people import PASSWORD_LENGTH, Role
from node.gui.texts import t
from node.gui.visit import Visit, within


def login_form(visit: Visit) -> Response:
    """Show the form for name and password."""
    if visit.person is not None:
        return visit.go("/")
    return _login(visit, name="", problem="", status=200)


def login(visit: Visit) -> Response:
    """Let somebody in who knows name and password, with a new session."""
    name, site = visit.field("name").lower(), visit.site
    wait = site.throttle.attempt(name, visit.address)
    if wait:
        return _login(visit, name=name, problem=t("entrance.wait", seconds=ceil(wait)), status=429)
    person = site.people.verified(name, visit.secret_field("password"))
    if person is None:
        visit.record(
            Action.PAGE_LOGIN, note=t("entrance.note_refused"), by=f"{name[:32] or '?'} (web)", refused=True
        )
        return _login(visit, name=name, problem=t("entrance.wrong"), status=401)
    site.throttle.passed(name, visit.address)
    if visit.session is not None:
        site.sessions.end(visit.session.key)
    visit.cookie = site.sessions.begin(person, complete=True)
    site.people.seen(person)
    visit.record(Action.PAGE_LOGIN, note=f"as {person.role.name.lower()}", by=f"{person.name} (web)")
    return visit.go(within(visit.field("next")))


def logout(visit: Visit) -> Response:
    """End the session."""
    if visit.session is not None:
        visit.site.sessions.end(visit.session.key)
        visit.record(Action.PAGE_LOGOUT, note="")
    return visit.go("/login")


def join_form(visit: Visit) -> Response:
    """Show what a link is for; looking at it does not use it up."""
    link = visit.site.links.look(visit.path("token"))
    person = None if link.person_id is None else visit.site.people.get(link.person_id)
    return _join(
        visit, name="" if person is None else person.name, fixed=person is not None, problem="", status=200
    )


def join(visit: Visit) -> Response:
    """Give an account its password: a new one with the first link, the invited one with others."""
    site, token = visit.site, visit.path("token")
    link = site.links.look(token)
    person = None if link.person_id is None else site.people.get(link.person_id)
    name = visit.field("name").lower() if person is None else person.name
    password = visit.secret_field("password")

    def again(problem: str) -> Response:
        return _join(visit, name=name, fixed=person is not None, problem=problem, status=422)

    if password != visit.secret_field("repeated"):
        return again(t("entrance.differ"))
    try:
        site.people.check_password(name, password)
        if person is None:
            site.people.check_name(name)
        site.links.spend(token)
        if person is None:
            person = site.people.add(name, Role.ADMIN, password)
            visit.home.gui_link_path.unlink(missing_ok=True)
        else:
            site.people.set_password(person, password)
    except AccountError as error:
        return again(error.text.format(**error.facts))
    site.sessions.end_all(person)
    site.throttle.passed(person.name, visit.address)
    visit.record(Action.PERSON_JOINED, note=f"role {person.role.name.lower()}", by=f"{person.name} (web)")
    visit.cookie = site.sessions.begin(person, complete=True)
    site.people.seen(person)
    return visit.go("/")


def _login(visit: Visit, *, name: str, problem: str, status: int) -> Response:
    facts = {
        "name": name,
        "problem": problem,
        "next": within(visit.field("next") or visit.query("next", "/")),
        "empty": not visit.site.people.anybody(),
        "link_file": visit.home.gui_link_path if visit.site.beside_agent else None,
    }
    return visit.show("login.html", status=status, **facts)


def _join(visit: Visit, *, name: str, fixed: bool, problem: str, status: int) -> Response:
    facts = {"name": name, "fixed": fixed, "problem": problem, "link": visit.path("token")}
    return visit.show("join.html", status=status, shortest=PASSWORD_LENGTH, **facts)


AREA: Final = Area(
    "entrance",
    (
        get("/login", Role.ANYONE, login_form),
        post("/login", Role.ANYONE, login),
        post("/logout", Role.VIEWER, logout),
        get("/join/{token}", Role.ANYONE, join_form),
        post("/join/{token}", Role.ANYONE, join),
    ),
)
