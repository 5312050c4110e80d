"""The web page lets in who may come in, and nobody else."""

import re
from dataclasses import replace

import pytest
from starlette.responses import Response
from starlette.routing import Route

from node.gui.app import routes
from node.gui.guard import guarded
from node.gui.people import Role
from tests.support.page import Page, make_page_home

ROUTES = {f"{route.method} {route.path}": route for route in routes({})}
LEAST = {
    "GET /": Role.VIEWER,
    "GET /data": Role.VIEWER,
    "GET /data/add/{draft_id}/samples/now": Role.MANAGER,
    "GET /data/add/{draft_id}/{step}": Role.MANAGER,
    "GET /data/browse": Role.MANAGER,
    "GET /data/job/{key}": Role.MANAGER,
    "GET /data/loading": Role.VIEWER,
    "GET /data/picture/{key}": Role.MANAGER,
    "GET /data/set/{dataset_id}": Role.VIEWER,
    "GET /data/set/{dataset_id}/counts": Role.MANAGER,
    "GET /data/set/{dataset_id}/counts/now": Role.MANAGER,
    "GET /data/set/{dataset_id}/edit": Role.MANAGER,
    "GET /data/set/{dataset_id}/remove": Role.MANAGER,
    "GET /data/set/{dataset_id}/samples": Role.MANAGER,
    "GET /data/set/{dataset_id}/samples/now": Role.MANAGER,
    "GET /join/{token}": Role.ANYONE,
    "GET /live": Role.VIEWER,
    "GET /login": Role.ANYONE,
    "GET /protections": Role.VIEWER,
    "GET /static/{digest}/{name}": Role.ANYONE,
    "POST /data/add": Role.MANAGER,
    "POST /data/add/{draft_id}/forget": Role.MANAGER,
    "POST /data/add/{draft_id}/{step}": Role.MANAGER,
    "POST /data/job/{key}/stop": Role.MANAGER,
    "POST /data/loading/remove": Role.MANAGER,
    "POST /data/set/{dataset_id}/check": Role.MANAGER,
    "POST /data/set/{dataset_id}/edit": Role.MANAGER,
    "POST /data/set/{dataset_id}/keep": Role.MANAGER,
    "POST /data/set/{dataset_id}/remove": Role.MANAGER,
    "POST /join/{token}": Role.ANYONE,
    "POST /login": Role.ANYONE,
    "POST /logout": Role.VIEWER,
}
"""The least role that may ask for a route, written down once more: whoever changes one must mean it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_page_home(tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(home):
    home.gui_path.unlink(missing_ok=True)
    page = Page(home)
    yield page
    page.close()


@pytest.fixture(scope="module")
def roles(tmp_path_factory):
    """A browser for each role."""
    page = Page(make_page_home(tmp_path_factory.mktemp("roles")))
    yield {role: page.browser(role) for role in Role}
    page.close()


def filled(path):
    """Return a path with something in place of its parameters."""
    return re.sub(r"\{\w+(:\w+)?\}", "x", path)


def test_every_route_has_the_role_that_was_decided():
    assert LEAST == {name: route.role for name, route in ROUTES.items()}


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_is_closed_to_all_below_its_role(name, roles):
    route = ROUTES[name]
    for role in Role:
        if role < route.role:
            refused = asked(roles[role], route)
            if role is Role.ANYONE:
                assert (303, "/login") == (refused.status_code, refused.headers["location"].partition("?")[0])
            else:
                assert 403 == refused.status_code


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_is_open_to_its_role_and_all_above(name, page):
    """What it then does is for the tests of its page: here something harmless answers in its place."""
    route = ROUTES[name]
    browsers = [page.browser(role) for role in Role if role >= route.role]
    harmless = replace(route, answer=lambda visit: Response("in"))
    page.app.router.routes[:] = [Route(route.path, guarded(page.site, harmless), methods=[route.method])]

    assert {"in"} == {asked(browser, route).text for browser in browsers}


def asked(browser, route):
    """Return the answer to a request of a browser for a route, in order but for who asks."""
    data = {"csrf": browser.token()} if route.method == "POST" else None
    return browser.client.request(route.method, filled(route.path), data=data)
