"""People use the web page in a real browser: by keyboard, without scripts, on a phone, in the dark, with a screen reader."""

from __future__ import annotations

import http.client
import os
import select
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from node.gui.app import routes
from node.gui.csrf import form_token
from node.gui.listen import Listen
from node.gui.people import Role
from node.gui.site import Site
from node.process import stop
from node.registry import Registry
from node.steward.agents import AgentControl
from tests.support.browser import DEADLINE_MS, launched, looked_at
from tests.support.page import CHEAP, DEADLINE_S, PASSWORD, Served, logged_in, make_page_home, written

PAGES = sorted(
    {route.path for route in routes() if route.method == "GET" and "{" not in route.path}
    - {"/live", "/login", "/login/code"}
)
"""What somebody sees who has logged in."""


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(make_page_home(tmp_path_factory.mktemp("page")), Listen(port=0))
    yield served
    served.close()


@pytest.fixture(scope="module")
def session(served):
    """The cookie of somebody who has logged in as an admin."""
    cookie, site = logged_in(served)
    site.people.add("carol", Role.MANAGER)
    site.close()
    return cookie.split("=")


@pytest.fixture
def complaints():
    """What the browser says about the pages: breaches of the content security policy, faults of scripts."""
    return []


@pytest.fixture
def opened(chromium, served, complaints):
    """What opens a page in a browser of its own."""
    contexts = []

    def opened(path="/", *, session=None, **options):
        context = chromium.new_context(base_url=served.address, **options)
        context.set_default_timeout(DEADLINE_MS)
        contexts.append(context)
        if session is not None:
            name, value = session
            context.add_cookies([{"name": name, "value": value, "url": served.address}])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [] == [text for text in complaints if "Failed to load resource" not in text]


def test_an_admin_sets_the_page_up_by_keyboard_and_comes_back(chromium, opened, tmp_path):
    served = Served(make_page_home(tmp_path), Listen(port=0))
    page = opened(served.link)
    page.keyboard.type("anna")
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.get_by_role("button", name="Log out").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.keyboard.type("anna")
    page.keyboard.press("Tab")
    page.keyboard.type("a wrong password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong")
    page.get_by_label("Password").focus()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    page.close()
    served.close()


def test_all_of_it_works_without_scripts(opened, served, session):
    page = opened("/people", session=session, java_script_enabled=False)
    page.get_by_label("Name", exact=True).fill("dora")
    page.get_by_role("button", name="Make an account").click()
    link = page.locator("code.secret").inner_text()

    guest = opened(link, java_script_enabled=False)
    guest.get_by_label("Password", exact=True).fill(PASSWORD)
    guest.get_by_label("Password again").fill(PASSWORD)
    guest.get_by_role("button").click()
    assert guest.get_by_role("heading", level=1).inner_text() == "Overview"
    assert guest.get_by_role("link", name="My account").is_visible()


def test_a_refusal_is_shown_in_place(opened, session):
    page = opened("/people", session=session)
    page.get_by_label("Name", exact=True).fill("carol")
    page.get_by_role("button", name="Make an account").click()

    expect(page.get_by_text("there is an account of this name")).to_be_visible()
    assert "carol" == page.get_by_label("Name", exact=True).input_value()


def test_a_table_is_narrowed_while_somebody_types(opened, session):
    page = opened("/people", session=session)
    expect(page.get_by_role("rowheader", name="anna")).to_be_visible()
    page.get_by_label("Find a name").press_sequentially("car")

    expect(page.get_by_role("rowheader", name="anna")).to_be_hidden()
    expect(page.get_by_role("rowheader", name="carol")).to_be_visible()


def test_a_policy_is_checked_in_the_editor(opened, session):
    page = opened("/settings/policy", session=session)
    page.get_by_label("Text of the policy").fill("max_workers = 3\n")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("row", name="max_workers")).to_contain_text("3")

    page.get_by_label("Text of the policy").fill("max_worker = 3\n")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("max_worker")
    assert "max_worker = 3" in page.get_by_label("Text of the policy").input_value()


def test_an_open_page_follows_what_happens(opened, served, session):
    page = opened("/", session=session)
    with page.expect_response("**/live"):
        page.reload()
    figure = page.locator(".card", has_text="Data sets").locator(".figure")
    expect(figure).to_have_text("1")

    registry = Registry(served.home.registry_path)
    found = registry.find("trial")
    registry.remove(found.dataset_id)
    expect(figure).to_have_text("0")
    registry.add(found.path, name="trial", tags=["trial"], description="a small table")
    registry.close()


def test_dark_and_light_can_be_switched_and_stay(opened, session):
    page = opened("/me", session=session, color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.reload()

    assert before != page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_pages_are_clear_to_everybody(opened, session):
    """Light, dark and on a phone; axe-core looks at labels, landmarks, order of headings, names of buttons and contrast."""
    login, page = opened("/login"), opened("/", session=session)
    found = {"/login": looked_at(login)}
    for path in PAGES:
        page.goto(path)
        found[path] = looked_at(page)

    assert {} == {path: problems for path, problems in found.items() if problems}


def test_a_page_beside_the_agent_restarts_it_and_comes_back(tmp_path):
    """Without a browser: what counts is that page and session come back, and who is named for it."""
    home = make_page_home(tmp_path)
    site = Site.open(home, hasher=CHEAP)
    cookie = site.sessions.begin(site.people.add("anna", Role.ADMIN, PASSWORD), complete=True)
    headers = {"Cookie": f"{site.cookie}={cookie}", "Content-Type": "application/x-www-form-urlencoded"}
    form = urlencode({"csrf": form_token(site.secret, cookie)})
    site.close()
    AgentControl(home, "the test").start(page=Listen(port=0))
    try:
        host = written(home.log / "gui.out", r"is at http://(\S+)")[1]
        first = home.holder()

        def asked(method, path):
            connection = http.client.HTTPConnection(host, timeout=DEADLINE_S)
            connection.request(method, path, form if method == "POST" else None, headers)
            status = connection.getresponse().status
            connection.close()
            return status

        assert 303 == asked("POST", "/settings/agent/restart")
        written(home.audit_path, r"agent_start_asked.*anna|anna.*agent_start_asked")
        written(home.log / "gui.out", rf"(?s)is at http://{host}.*is at http://{host}")
        second = home.holder()
        assert second not in {None, first}
        assert 200 == asked("GET", "/settings")

        agent = os.pidfd_open(second)
        assert 200 == asked("POST", "/settings/agent/stop")
        assert select.select([agent], [], [], DEADLINE_S)[0]
        os.close(agent)
        assert home.holder() is None
        assert written(home.audit_path, r"(?s)(agent_stop_asked.*){2}")
    finally:
        stop(home)
