"""Call the web page of a node without a browser."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from argon2 import PasswordHasher
from httpx2 import Response
from starlette.testclient import TestClient

from common.clock import ManualClock
from node.gui.app import build
from node.gui.csrf import form_token
from node.gui.people import Person, Role
from node.gui.site import Site
from node.home import NodeHome
from tests.support.nodes import make_home, make_kits

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Costs nothing: what a guess costs is for the library to say, not for these tests."""

PASSWORD = "the burrow has two doors"


def make_page_home(folder: Path) -> NodeHome:
    """Make the home of node `lyon`, with the data set `trial` and one approved plan."""
    return make_home(
        folder / "lyon", make_kits(folder / "kits", {"lyon": "node", "lab": "researcher"})["lyon"]
    )


class Page:
    """The page of a node, with one account for each role: `viewer`, `manager` and `admin`."""

    def __init__(self, home: NodeHome, **options: object) -> None:
        self.home = home
        self.clock = ManualClock(time.time())
        self.site = Site.open(home, clock=self.clock, hasher=CHEAP, **options)
        self.app = build(self.site)
        self.people: dict[Role, Person] = {}
        for role in (Role.VIEWER, Role.MANAGER, Role.ADMIN):
            self.people[role] = self.site.people.add(role.name.lower(), role, PASSWORD)

    def browser(self, role: Role = Role.ANYONE, *, base: str = "http://127.0.0.1:8484") -> Browser:
        """Return a browser of its own, logged in as the account of a role."""
        browser = Browser(self, base)
        if role is not Role.ANYONE:
            browser.log_in(self.people[role].name)
        return browser

    def close(self) -> None:
        self.site.close()


class Browser:
    """A browser that runs no scripts: it keeps cookies, and sends forms with their token."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.client = TestClient(page.app, base_url=base, follow_redirects=False)
        self.client.get("/login")  # which gives it its cookie

    @property
    def cookie(self) -> str | None:
        """Return the session cookie that it holds."""
        return self.client.cookies.get(self.page.site.cookie)

    def get(self, path: str, **options: object) -> Response:
        return self.client.get(path, **options)

    def token(self) -> str:
        """Return the token in the forms that this browser gets."""
        return form_token(self.page.site.secret, str(self.cookie))

    def post(self, path: str, data: Mapping[str, object] | None = None, **options: object) -> Response:
        """Send a form as one of ours would be sent."""
        return self.client.post(path, data={"csrf": self.token(), **(data or {})}, **options)

    def log_in(self, name: str, password: str = PASSWORD) -> Response:
        return self.post("/login", {"name": name, "password": password})
