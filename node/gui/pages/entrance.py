"""Log in and out, and join by a link that works once."""

from __future__ import annotations

from math import ceil
from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response

from common.audit.record import Action
from common.errors import AccountError
from node.gui.area import Area, get, post
from node.gui.people import PASSWORD_LENGTH, Person, Role
from node.gui.texts import t
from node.gui.visit import Visit, within


def login_form(visit: Visit) -> Response:
    """Show the form for name and password."""
    if visit.person is not None:
        return visit.go("/")
    return _login(visit, name="", problem="", status=200)


def login(visit: Visit) -> Response:
    """Let somebody in who knows name and password, or ask them for the second factor."""
    name, site = visit.field("name").lower(), visit.site
    wait = site.throttle.attempt(name, visit.address)
    if wait:
        return _login(visit, name=name, problem=t("entrance.wait", seconds=ceil(wait)), status=429)
    person = site.people.verified(name, visit.secret_field("password"))
    if person is None:
        known = any(
            one.name == name for one in site.people.list()
        )  # else it may be a password in the wrong field
        visit.record(
            Action.PAGE_LOGIN, "name or password wrong", by=name if known else "somebody", refused=True
        )
        return _login(visit, name=name, problem=t("entrance.wrong"), status=401)
    site.throttle.passed(name, visit.address)
    if person.second_factor:
        visit.cookie = site.sessions.begin(person, complete=False)
        return visit.go("/login/code?" + urlencode({"next": within(visit.field("next"))}))
    return _enter(visit, person)


def code_form(visit: Visit) -> Response:
    """Show the form for the code of the second factor."""
    if visit.session is None or visit.session.complete:
        return visit.go("/login")
    return _code(visit, problem="", status=200)


def code(visit: Visit) -> Response:
    """Let somebody in who has given the password before, and has the second factor too."""
    if visit.session is None or visit.session.complete:
        return visit.go("/login")
    site, person = visit.site, visit.site.people.get(visit.session.person_id)
    wait = site.throttle.attempt(f"code of {person.name}", visit.address)
    if wait:
        return _code(visit, problem=t("entrance.wait", seconds=ceil(wait)), status=429)
    if person.locked or not site.second_factors.passes(person, visit.field("code")):
        visit.record(Action.PAGE_LOGIN, "code wrong", by=person.name, refused=True)
        return _code(visit, problem=t("entrance.wrong_code"), status=401)
    site.throttle.passed(f"code of {person.name}", visit.address)
    return _enter(visit, person)


def logout(visit: Visit) -> Response:
    """End the session."""
    if visit.session is not None:
        with visit.recorded(Action.PAGE_LOGOUT, ""):
            visit.site.sessions.end(visit.session.key)
    return visit.go("/login")


def join_form(visit: Visit) -> Response:
    """Show what a link is for; looking at it does not use it up."""
    link = visit.site.links.look(visit.path("token"))
    person = None if link.person_id is None else visit.site.people.get(link.person_id)
    return _join(visit, name=person.name if person else "", fixed=person is not None, problem="", status=200)


def join(visit: Visit) -> Response:
    """Give an account its password: a new admin with the link of the set-up, the account that it was made for with others."""
    site, token = visit.site, visit.path("token")
    link = site.links.look(token)
    person = None if link.person_id is None else site.people.get(link.person_id)
    name = visit.field("name").lower() if person is None else person.name
    password, repeated = visit.secret_field("password"), visit.secret_field("repeated")
    fixed = person is not None
    if password != repeated:
        return _join(visit, name=name, fixed=fixed, problem=t("entrance.differ"), status=422)
    try:
        with visit.recorded(Action.PERSON_JOINED, "chose a password", by=name):
            site.links.spend(token)
            if person is None:
                person = site.people.add(name, Role.ADMIN, password)
            else:
                site.people.set_password(person, password)
                site.second_factors.turn_off(person)
            site.sessions.end_all(person)
    except AccountError as error:
        return _join(visit, name=name, fixed=fixed, problem=error.text.format(**error.facts), status=422)
    if not fixed:
        visit.home.gui_link_path.unlink(missing_ok=True)
    return visit.go("/login") if person.locked else _enter(visit, person)


def _enter(visit: Visit, person: Person) -> Response:
    """Begin a session with a token that is new, and end the one that the browser had."""
    sessions = visit.site.sessions
    with visit.recorded(Action.PAGE_LOGIN, f"as {person.role.name.lower()}", by=person.name):
        if visit.session is not None:
            sessions.end(visit.session.key)
        visit.cookie = sessions.begin(person, complete=True)
        visit.site.people.seen(person)
    return visit.go(within(visit.field("next")))


def _login(visit: Visit, *, name: str, problem: str, status: int) -> Response:
    facts = {
        "name": name,
        "problem": problem,
        "next": _next(visit),
        "empty": not visit.site.people.anybody(),
        "link_file": visit.home.gui_link_path if visit.site.beside is not None else None,
    }
    return visit.show("login.html", status=status, **facts)


def _code(visit: Visit, *, problem: str, status: int) -> Response:
    return visit.show("code.html", status=status, problem=problem, next=_next(visit))


def _join(visit: Visit, *, name: str, fixed: bool, problem: str, status: int) -> Response:
    facts = {"name": name, "fixed": fixed, "problem": problem, "link": visit.path("token")}
    return visit.show("join.html", status=status, shortest=PASSWORD_LENGTH, **facts)


def _next(visit: Visit) -> str:
    return within(visit.field("next") or visit.query("next", "/"))


AREA: Final = Area(
    "entrance",
    (
        get("/login", Role.ANYONE, login_form),
        post("/login", Role.ANYONE, login),
        get("/login/code", Role.ANYONE, code_form),
        post("/login/code", Role.ANYONE, code),
        post("/logout", Role.VIEWER, logout),
        get("/join/{token}", Role.ANYONE, join_form),
        post("/join/{token}", Role.ANYONE, join),
    ),
)
