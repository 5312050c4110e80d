"""Declare what can be asked for: each route with the least role that may use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from starlette.responses import Response

from node.gui.people import Role

if TYPE_CHECKING:
    from node.gui.visit import Visit

BODY_BYTES: Final = 256 * 1024
"""Most that a request may bring unless its route says otherwise."""

Answer = Callable[["Visit"], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked for.

    Attributes:
        method: A `GET` changes nothing; a `POST` must carry the token of its session.
        path: As Starlette has it, `/data/{dataset_id}` for instance.
        role: The least role that may ask; `Role.ANYONE` needs no login.
        answer: What answers, on a thread of its own.
        watches: Whether a browser asks by itself: that neither counts as being there, nor changes its cookie.
        body_bytes: Most that its request may bring.
    """

    method: Literal["GET", "POST"]
    path: str
    role: Role
    answer: Answer
    watches: bool = False
    body_bytes: int = BODY_BYTES


@dataclass(frozen=True, slots=True)
class Area:
    """What belongs together, with its place in the navigation.

    Attributes:
        name: Its key: `texts/<name>.toml`, and in `nav.toml` what the navigation calls it.
        routes: All that can be asked for.
        icon: Its picture in the navigation, one of `icons.html`; not shown there if None.
    """

    name: str
    routes: tuple[Route, ...]
    icon: str | None = None

    @property
    def home(self) -> Route:
        """Return where the navigation leads to: the first route."""
        return self.routes[0]


def get(path: str, role: Role, answer: Answer, *, watches: bool = False) -> Route:
    """Return a route that shows something and changes nothing."""
    return Route("GET", path, role, answer, watches)


def post(path: str, role: Role, answer: Answer, *, body_bytes: int = BODY_BYTES) -> Route:
    """Return a route that changes something."""
    return Route("POST", path, role, answer, body_bytes=body_bytes)
