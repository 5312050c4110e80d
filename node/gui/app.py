"""Put the page together."""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp

from node.gui.area import Area, Route, get
from node.gui.border import Border
from node.gui.guard import guarded, refused, stranger
from node.gui.live import live
from node.gui.pages import AREAS
from node.gui.people import Role
from node.gui.site import Site
from node.gui.view import digest, static_files
from node.gui.visit import Visit

_FOR_A_YEAR: Final = "public, max-age=31536000, immutable"


def build(site: Site) -> ASGIApp:
    """Return the page of a node, as an ASGI app.

    Every route of it comes from `routes`, behind the guard; whatever else is asked for is not there.
    """
    site.views.globals["areas"] = AREAS
    everything = routes()
    return Starlette(
        routes=[Path(one.path, guarded(site, one), methods=[one.method]) for one in everything],
        middleware=[
            Middleware(
                Border, hosts=site.hosts, tls=site.tls, most_bytes=max(one.body_bytes for one in everything)
            )
        ],
        exception_handlers={HTTPException: _not_there(site)},
    )


def routes() -> tuple[Route, ...]:
    """Return all that can be asked for, each with the least role that may."""
    return (
        get("/static/{digest}/{name}", Role.ANYONE, static, watches=True),
        get("/live", Role.VIEWER, live, watches=True),
        *_of(AREAS),
    )


def _of(areas: tuple[Area, ...]) -> Iterator[Route]:
    for area in areas:
        yield from area.routes


def static(visit: Visit) -> Response:
    """Return a file by its name and the hash of its content, so that a browser never shows an old one."""
    name = visit.path("name")
    data = static_files().get(name)
    if data is None or digest(data) != visit.path("digest"):
        raise HTTPException(404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(data, media_type=kind, headers={"cache-control": _FOR_A_YEAR})


def _not_there(site: Site) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        visit = await run_in_threadpool(stranger, site, request)
        return await run_in_threadpool(refused, visit, status)

    return answer
