"""Call the web page of a node without a browser."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from argon2 import PasswordHasher
from httpx2 import Response
from starlette.testclient import TestClient
from watchdog.events import FileCreatedEvent, FileModifiedEvent, FileSystemEventHandler
from watchdog.observers import Observer

from common.clock import ManualClock
from node.gui.app import build
from node.gui.csrf import form_token
from node.gui.people import Person, Role
from node.gui.server import serve
from node.gui.site import Site
from node.home import NodeHome
from tests.support.nodes import make_home, make_kits

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Costs nothing: what a guess costs is for the library to say, not for these tests."""

PASSWORD = "the burrow has two doors"
DEADLINE_S = 30


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


class Served:
    """The page of a home on a port of this machine, in a thread of this process."""

    def __init__(self, home, listen):
        self.home = home
        self.listen = listen
        self._told = queue.Queue()
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.address, self.link = self._told.get(timeout=DEADLINE_S)

    def _serve(self):
        serve(self.home, self.listen, ready=lambda *told: self._told.put(told), until=self._reader)

    def close(self):
        os.close(self._writer)
        self._thread.join(DEADLINE_S)
        os.close(self._reader)


def logged_in(served):
    """Return the cookie of a session, and the site that it belongs to."""
    site = Site.open(served.home, hasher=CHEAP)
    person = site.people.add("anna", Role.ADMIN, PASSWORD)
    return f"{site.cookie}={site.sessions.begin(person, complete=True)}", site


def written(path: Path, pattern: str) -> re.Match[str]:
    """Wait until a file, or one of the files of a folder together, says something; return what."""
    touched = threading.Event()
    ears, observer = FileSystemEventHandler(), Observer()
    ears.on_any_event = lambda _: touched.set()
    observer.schedule(
        ears, str(path.parent), recursive=True, event_filter=[FileCreatedEvent, FileModifiedEvent]
    )
    observer.start()
    try:
        while True:
            parts = sorted(path.glob("*.jsonl")) if path.is_dir() else [path] if path.exists() else []
            if found := re.search(pattern, "".join(part.read_text() for part in parts)):
                return found
            assert touched.wait(DEADLINE_S), f"{path} does not say {pattern}"
            touched.clear()
    finally:
        observer.stop()
        observer.join()
