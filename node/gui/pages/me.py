"""Let a person look after the own account: password, second factor, other browsers."""

from __future__ import annotations

import re
from math import ceil
from typing import Final

import segno
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import Response

from common.audit.record import Action
from common.errors import AccountError
from node.gui.area import Area, get, post
from node.gui.people import PASSWORD_LENGTH, Role
from node.gui.second_factor import address, new_secret
from node.gui.sessions import IDLE_S, LIFE_S
from node.gui.texts import t
from node.gui.visit import Visit

_SECRET: Final = re.compile(r"[A-Z2-7]{32}")


def account(visit: Visit) -> Response:
    """Show the own account."""
    return _shown(visit)


def change_password(visit: Visit) -> Response:
    """Choose another password; all other browsers must log in again."""
    problem = _unproven(visit)
    if problem is None and visit.secret_field("password") != visit.secret_field("repeated"):
        problem = t("entrance.differ")
    if problem is not None:
        return _shown(visit, status=422, password_problem=problem)
    try:
        with visit.recorded(Action.PERSON_CHANGED, "changed the own password"):
            visit.site.people.set_password(visit.known, visit.secret_field("password"))
            visit.site.sessions.end_all(visit.known, but=_key(visit))
    except AccountError as error:
        return _shown(visit, status=422, password_problem=error.text.format(**error.facts))
    return visit.go("/me", said=t("me.password_changed"))


def end_others(visit: Visit) -> Response:
    """Log out all other browsers."""
    with visit.recorded(Action.PAGE_LOGOUT, "all other browsers"):
        visit.site.sessions.end_all(visit.known, but=_key(visit))
    return visit.go("/me", said=t("me.others_ended"))


def factor_form(visit: Visit) -> Response:
    """Show the secret that an app needs, as text and as a picture."""
    return _factor(visit, new_secret(), status=200)


def turn_on(visit: Visit) -> Response:
    """Ask for codes from now on, and show the recovery codes; they are shown once."""
    secret = visit.field("secret")
    if not _SECRET.fullmatch(secret):
        raise HTTPException(400)
    unproven = _unproven(visit)
    if unproven is not None:
        return _factor(visit, secret, password_problem=unproven, status=422)
    with visit.site.store.use():
        codes = visit.site.second_factors.turn_on(visit.known, secret, visit.field("code"))
        if codes:
            visit.record(Action.PERSON_CHANGED, "turned the own second factor on")
    if not codes:
        return _factor(visit, secret, problem=t("entrance.wrong_code"), status=422)
    visit.site.sessions.end_all(visit.known, but=_key(visit))
    return visit.show("codes.html", codes=codes)


def turn_off(visit: Visit) -> Response:
    """Ask for no codes any more."""
    problem = _unproven(visit)
    if problem is not None:
        return _shown(visit, status=422, factor_problem=problem)
    with visit.recorded(Action.PERSON_CHANGED, "turned the own second factor off"):
        visit.site.second_factors.turn_off(visit.known)
    return visit.go("/me", said=t("me.factor_off"))


def _unproven(visit: Visit) -> str | None:
    """Return why it is not sure that the person sits there: the password decides, for a browser may be left open."""
    site, name = visit.site, visit.known.name
    wait = site.throttle.attempt(name, visit.address)
    if wait:
        return t("entrance.wait", seconds=ceil(wait))
    if site.people.verified(name, visit.secret_field("current")) is None:
        return t("me.wrong_password")
    site.throttle.passed(name, visit.address)
    return None


def _shown(visit: Visit, *, status: int = 200, **problems: object) -> Response:
    facts = {
        "shortest": PASSWORD_LENGTH,
        "codes_left": visit.site.second_factors.codes_left(visit.known),
        "idle_min": int(IDLE_S // 60),
        "life_h": int(LIFE_S // 3600),
        "password_problem": "",
        "factor_problem": "",
    }
    return visit.show("me.html", status=status, **{**facts, **problems})


def _factor(
    visit: Visit, secret: str, *, status: int, problem: str = "", password_problem: str = ""
) -> Response:
    uri = address(secret, account=visit.known.name, issuer=f"Warren {visit.site.party}")
    picture = Markup(segno.make(uri, error="m").svg_inline(scale=5, border=3))  # noqa: S704 - made here, of numbers only
    groups = " ".join(secret[place : place + 4] for place in range(0, len(secret), 4))
    facts = {"groups": groups, "picture": picture, "problem": problem, "password_problem": password_problem}
    return visit.show("factor.html", status=status, secret=secret, **facts)


def _key(visit: Visit) -> str | None:
    return visit.session.key if visit.session else None


AREA: Final = Area(
    "me",
    (
        get("/me", Role.VIEWER, account),
        post("/me/password", Role.VIEWER, change_password),
        post("/me/others", Role.VIEWER, end_others),
        get("/me/factor", Role.VIEWER, factor_form),
        post("/me/factor", Role.VIEWER, turn_on),
        post("/me/factor/off", Role.VIEWER, turn_off),
    ),
    icon="me",
)
