"""Give the functions behind the pages what they need: who asks, for what, and ways to answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from common.audit.record import Action, Entry
from node.gui.csrf import form_token
from node.gui.people import Person, Role
from node.gui.sessions import Session
from node.gui.site import Site
from node.home import NodeHome


@dataclass(slots=True)
class Visit:
    """One request that was let in.

    Attributes:
        site: What all pages share.
        request: What was asked, its path and query.
        form: What a post brought; empty otherwise.
        cookie: The token that the browser holds after this request.
        person: Who asks; None before the login.
        session: The session of that person; before the second factor it is there without a person.
    """

    site: Site
    request: Request
    form: FormData
    cookie: str
    person: Person | None = None
    session: Session | None = None

    @property
    def home(self) -> NodeHome:
        """Return the node."""
        return self.site.home

    @property
    def by(self) -> str:
        """Return the name of who asks, as the audit log has it; the word keeps it apart from accounts of the system."""
        return signed(self.known.name)

    @property
    def known(self) -> Person:
        """Return who asks, on routes that need a login."""
        if self.person is None:
            raise LookupError("this route needs no login")
        return self.person

    @property
    def address(self) -> str:
        """Return where the request comes from."""
        return self.request.client.host if self.request.client else "unknown"

    @property
    def partial(self) -> bool:
        """Tell whether htmx asks, which replaces a part of the page."""
        return self.request.headers.get("hx-request") == "true"

    def may(self, role: Role) -> bool:
        """Tell whether the person may do what this role may."""
        return self.person is not None and self.person.role >= role

    def field(self, name: str) -> str:
        """Return a field of the form without white space around it; empty if it is missing."""
        return self.secret_field(name).strip()

    def secret_field(self, name: str) -> str:
        """Return a field of the form as it is; empty if it is missing or a file."""
        value = self.form.get(name, "")
        return value if isinstance(value, str) else ""

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the query."""
        return self.request.query_params.get(name, default)

    def number(self, name: str, default: int = 1) -> int:
        """Return a parameter of the query that is a number from 1 on; the default if it is none."""
        text = self.query(name)
        return max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else default

    def show(self, template: str, *, status: int = 200, **facts: object) -> Response:
        """Return a page, or with htmx the page that it takes its part of."""
        return HTMLResponse(self.render(template, **facts), status_code=status)

    def render(self, template: str, **facts: object) -> str:
        """Return the HTML of a template, which also knows the visit and may put tokens into forms."""
        return self.site.views.get_template(template).render(
            {
                "visit": self,
                "site": self.site,
                "person": self.person,
                "token": form_token(self.site.secret, self.cookie),
                "theme": self._theme,
                **facts,
            }
        )

    def go(self, path: str, *, said: str = "") -> Response:
        """Return that the browser should go on to another page, which first tells what was done."""
        if said and self.session is not None:
            self.site.sessions.say(self.session.key, said)
        if self.partial:
            return Response(status_code=204, headers={"hx-redirect": path})
        return RedirectResponse(path, status_code=303)

    def said(self) -> str:
        """Return what the page before had to tell, once."""
        return (
            "" if self.session is None or self.person is None else self.site.sessions.hear(self.session.key)
        )

    @contextlib.contextmanager
    def recorded(self, action: Action, note: str, *, by: str | None = None) -> Iterator[None]:
        """Do what the block does to the accounts and write it into the audit log, or neither.

        Args:
            action: What is done.
            note: The rest of it; never a password or token.
            by: Who does it, if nobody is known yet.

        Raises:
            AuditBrokenError: If it cannot be written.
        """
        with self.site.store.use():
            yield
            self.record(action, note, by=by)

    def record(self, action: Action, note: str, *, by: str | None = None, refused: bool = False) -> None:
        """Write what somebody did, or was not allowed to do, into the audit log.

        Raises:
            AuditBrokenError: If it cannot be written.
        """
        self.home.audit().append(
            Entry(
                action=action,
                actor=f"person {signed(by) if by else self.by}",
                outcome="refused" if refused else "done",
                note=note[:2000] or None,
            )
        )

    @property
    def _theme(self) -> str:
        chosen = self.request.cookies.get("warren-theme", "")
        return chosen if chosen in {"light", "dark"} else ""


def signed(name: str) -> str:
    """Return how the audit log names an account of the page; so it is never taken for an account of the system."""
    return f"{name} (web)"


def within(path: str) -> str:
    """Return a path of this site to go on to; the overview if it leads elsewhere."""
    parts = urlsplit(path)
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if plain and not parts.netloc and not parts.scheme else "/"
