"""Decide who may use the page: invite, change roles, lock out, hand out new links, remove."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from common.audit.record import Action
from common.errors import AccountError
from node.gui.area import Area, get, post
from node.gui.paging import slice_of
from node.gui.people import Person, Role
from node.gui.texts import t
from node.gui.visit import Visit

ROLES: Final = (Role.VIEWER, Role.MANAGER, Role.ADMIN)


def listing(visit: Visit) -> Response:
    """Show all accounts."""
    return _shown(visit)


def invite(visit: Visit) -> Response:
    """Make an account without a password, and show the link by which its person chooses one; it is shown once."""
    name, role = visit.field("name").lower(), _role(visit)
    try:
        with visit.recorded(Action.PERSON_INVITED, f"{name} as {role.name.lower()}"):
            person = visit.site.people.add(name, role)
            link = _link(visit, person)
    except AccountError as error:
        return _shown(visit, status=422, name=name, problem=error.text.format(**error.facts))
    return _shown(visit, link=link, linked=person.name)


def change_role(visit: Visit) -> Response:
    """Let an account do more, or less."""
    person, role = _other(visit), _role(visit)
    with visit.recorded(
        Action.PERSON_CHANGED, f"{person.name} from {person.role.name.lower()} to {role.name.lower()}"
    ):
        visit.site.people.set_role(person, role)
    return visit.go(
        "/people", said=t("people.role_changed", name=person.name, role=t(f"nav.role_{role.name}"))
    )


def lock(visit: Visit) -> Response:
    """Keep an account out, at once."""
    person = _other(visit)
    with visit.recorded(Action.PERSON_CHANGED, f"{person.name} locked"):
        visit.site.people.lock(person, locked=True)
        visit.site.sessions.end_all(person)
    return visit.go("/people", said=t("people.was_locked", name=person.name))


def unlock(visit: Visit) -> Response:
    """Let an account in again."""
    person = _other(visit)
    with visit.recorded(Action.PERSON_CHANGED, f"{person.name} unlocked"):
        visit.site.people.lock(person, locked=False)
    return visit.go("/people", said=t("people.was_unlocked", name=person.name))


def reset(visit: Visit) -> Response:
    """Show a link by which a person chooses another password; using it also takes the second factor away."""
    person = _other(visit)
    with visit.recorded(Action.PERSON_CHANGED, f"{person.name} got a link for another password"):
        link = _link(visit, person)
    return _shown(visit, link=link, linked=person.name)


def remove(visit: Visit) -> Response:
    """Forget an account."""
    person = _other(visit)
    with visit.recorded(Action.PERSON_CHANGED, f"{person.name} removed"):
        visit.site.people.remove(person)
    return visit.go("/people", said=t("people.was_removed", name=person.name))


def _shown(visit: Visit, *, status: int = 200, **facts: object) -> Response:
    wanted = visit.query("search").lower()
    found = [one for one in visit.site.people.list() if wanted in one.name]
    rows = slice_of(found, visit.number("page"), path="/people", filters={"search": wanted})
    empty = {"link": "", "linked": "", "name": "", "problem": "", "search": wanted}
    return visit.show("people.html", status=status, rows=rows, roles=ROLES, **{**empty, **facts})


def _link(visit: Visit, person: Person) -> str:
    host = visit.request.headers["host"]  # one of ours: the border looks at it
    return f"{visit.request.url.scheme}://{host}/join/{visit.site.links.make(person)}"


def _other(visit: Visit) -> Person:
    """Return the account that is meant.

    Raises:
        HTTPException: If the path names none.
        AccountError: If it is not there, or that of the person who asks: an admin who slips must not shut out themselves.
    """
    number = visit.path("person_id")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise HTTPException(404)
    person = visit.site.people.get(int(number))
    if person.person_id == visit.known.person_id:
        raise AccountError(name=person.name, reason="it is your own, and another admin must change it")
    return person


def _role(visit: Visit) -> Role:
    """Return the role that a form names.

    Raises:
        HTTPException: If it names none.
    """
    chosen = next((role for role in ROLES if role.name == visit.field("role")), None)
    if chosen is None:
        raise HTTPException(400)
    return chosen


AREA: Final = Area(
    "people",
    (
        get("/people", Role.ADMIN, listing),
        post("/people/invite", Role.ADMIN, invite),
        post("/people/{person_id}/role", Role.ADMIN, change_role),
        post("/people/{person_id}/lock", Role.ADMIN, lock),
        post("/people/{person_id}/unlock", Role.ADMIN, unlock),
        post("/people/{person_id}/reset", Role.ADMIN, reset),
        post("/people/{person_id}/remove", Role.ADMIN, remove),
    ),
    icon="people",
)
