"""Let in who may come in: every route of the page goes through here, and what is not allowed is refused."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from common.errors import WarrenError
from node.gui.area import Route
from node.gui.csrf import FIELD, is_ours
from node.gui.database import new_token
from node.gui.people import Person, Role
from node.gui.sessions import Session
from node.gui.site import Site
from node.gui.texts import t
from node.gui.visit import Visit

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

WATCHING: Final = "x-watching"
"""Header of requests that a page makes by itself when something has changed; they do not count as being there."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_FIELDS: Final = 500
_NOBODY: Final = FormData()


def guarded(site: Site, route: Route) -> Endpoint:
    """Return what answers a route: it finds out who asks, refuses what is not theirs, and turns errors into pages."""

    async def endpoint(request: Request) -> Response:
        visit = await run_in_threadpool(
            _enter, site, request, present=not route.watches and WATCHING not in request.headers
        )
        answer = await _refusal(visit, route)
        if answer is None:
            answer = await run_in_threadpool(_answered, visit, route)
        await visit.form.close()
        if not route.watches:
            _keep_cookie(answer, visit)
        return answer

    return endpoint


def refused(visit: Visit, status: int) -> Response:
    """Return a page that says why something was refused."""
    key = {400: "bad", 403: "forbidden", 404: "missing", 405: "method", 413: "too_large"}.get(status, "bad")
    return trouble(visit, status, happened=t(f"errors.{key}"), advice=t(f"errors.{key}_advice"))


def trouble(visit: Visit, status: int, *, happened: str, advice: str, code: str = "") -> Response:
    """Return what happened and what to do: as a page, or for htmx as a notice above the one that is open."""
    facts = {"happened": happened, "advice": advice, "code": code}
    if not visit.partial:
        return visit.show("trouble.html", status=status, **facts)
    answer = visit.show("notice.html", status=status, **facts)
    answer.headers.update(
        {"hx-retarget": "#notices", "hx-reswap": "innerHTML show:top", "hx-reselect": "#trouble"}
    )
    return answer


def stranger(site: Site, request: Request) -> Visit:
    """Return the visit of somebody who asks for what is not there."""
    return _enter(site, request, present=True)


def _enter(site: Site, request: Request, *, present: bool) -> Visit:
    """Find out who asks."""
    cookie = request.cookies.get(site.cookie, "")
    if not _TOKEN.fullmatch(cookie):
        return Visit(site, request, _NOBODY, new_token())
    session = site.sessions.find(cookie, present=present)
    return Visit(site, request, _NOBODY, cookie, _person(site, session), session)


def _person(site: Site, session: Session | None) -> Person | None:
    """Return whose session it is, as the account is now; None if it is not complete or the account is kept out."""
    if session is None or not session.complete:
        return None
    try:
        person = site.people.get(session.person_id)
    except WarrenError as error:
        log.info("account gone", extra={"action": "account_gone", "error": str(error)})
        return None
    return None if person.locked else person


async def _refusal(visit: Visit, route: Route) -> Response | None:
    """Return why a request is not answered; None if it is. What was sent is read only if the rest is in order."""
    if route.role is not Role.ANYONE and visit.person is None:
        return await run_in_threadpool(_to_login, visit)
    if route.role is not Role.ANYONE and not visit.may(route.role):
        log.warning(
            "refused by role", extra={"action": "refused", "person": visit.known.name, "route": route.path}
        )
        return await run_in_threadpool(refused, visit, 403)
    if route.method == "POST":
        try:
            visit.form = await _form(visit.request, route.body_bytes)
        except HTTPException as error:
            return await run_in_threadpool(refused, visit, error.status_code)
        given = visit.request.cookies.get(visit.site.cookie)
        if not is_ours(visit.request, visit.secret_field(FIELD), secret=visit.site.secret, cookie=given):
            log.warning("refused a forged form", extra={"action": "refused", "route": route.path})
            return await run_in_threadpool(
                trouble, visit, 403, happened=t("errors.forged"), advice=t("errors.forged_advice")
            )
    return None


def _to_login(visit: Visit) -> Response:
    """Return that somebody must log in first."""
    if visit.partial:
        return Response(status_code=401, headers={"hx-redirect": "/login"})
    asked = visit.request.url.path
    wanted = asked if visit.request.method == "GET" and asked != "/" else ""
    return visit.go(f"/login?next={quote(wanted)}" if wanted else "/login")


async def _form(request: Request, most: int) -> FormData:
    """Read a form.

    Raises:
        HTTPException: If it is none, or too long.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise HTTPException(413)
    whole = Request(request.scope, _once(body))
    return await whole.form(max_files=1, max_fields=_FIELDS, max_part_size=most)


def _once(body: bytes) -> Callable[[], Awaitable[dict[str, object]]]:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _answered(visit: Visit, route: Route) -> Response:
    try:
        return route.answer(visit)
    except WarrenError as error:
        log.info("refused by the core", extra={"action": "refused", "code": error.code, "route": route.path})
        happened = error.text.format(**error.facts)
        return trouble(visit, 422, happened=happened, advice=error.advice, code=error.code)
    except HTTPException as error:
        return refused(visit, error.status_code)
    except Exception:  # the border of the page: whatever it is, the reader gets a number and the log the rest
        number = secrets.token_hex(4)
        log.exception("page failed", extra={"action": "page_failed", "route": route.path, "number": number})
        return trouble(visit, 500, happened=t("errors.fault", number=number), advice=t("errors.fault_advice"))


def _keep_cookie(answer: Response, visit: Visit) -> None:
    """Give the browser its token, if it has another or none."""
    site = visit.site
    if visit.request.cookies.get(site.cookie) != visit.cookie:
        answer.set_cookie(
            site.cookie, visit.cookie, path="/", secure=site.tls, httponly=True, samesite="strict"
        )
