"""The web page lets in who may come in, and nobody else."""

import json
import re
from dataclasses import replace
from importlib.resources import files

import pyotp
import pytest
from starlette.responses import Response
from starlette.routing import Route

from common.audit.verify import read_records
from common.errors import AccountError
from common.training_plans.source import plan_hash
from node.approval import Approvals
from node.gui import throttle
from node.gui.app import routes
from node.gui.csrf import form_token
from node.gui.guard import guarded
from node.gui.links import LIFE_S as LINK_LIFE_S
from node.gui.people import PASSWORD_LENGTH, Role
from node.gui.sessions import HALF_LIFE_S, IDLE_S, LIFE_S
from node.gui.view import static_files
from node.registry import Registry
from tests.support.nodes import write_table
from tests.support.page import PASSWORD, Page, make_page_home

ROUTES = {f"{route.method} {route.path}": route for route in routes()}
LEAST = {
    "GET /": Role.VIEWER,
    "GET /activity": Role.VIEWER,
    "GET /activity/left": Role.VIEWER,
    "GET /activity/{task}": Role.VIEWER,
    "GET /activity/{task}/cancel": Role.MANAGER,
    "GET /audit": Role.VIEWER,
    "GET /audit/verify": Role.VIEWER,
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
    "GET /login/code": Role.ANYONE,
    "GET /me": Role.VIEWER,
    "GET /me/factor": Role.VIEWER,
    "GET /people": Role.ADMIN,
    "GET /plans": Role.VIEWER,
    "GET /plans/history": Role.VIEWER,
    "GET /plans/new": Role.MANAGER,
    "GET /plans/{plan}": Role.VIEWER,
    "GET /protections": Role.VIEWER,
    "GET /settings": Role.VIEWER,
    "GET /settings/away": Role.VIEWER,
    "GET /settings/log": Role.MANAGER,
    "GET /settings/policy": Role.ADMIN,
    "GET /static/{digest}/{name}": Role.ANYONE,
    "POST /activity/{task}/cancel": Role.MANAGER,
    "POST /audit/lines": Role.VIEWER,
    "POST /audit/table": Role.VIEWER,
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
    "POST /login/code": Role.ANYONE,
    "POST /logout": Role.VIEWER,
    "POST /me/factor": Role.VIEWER,
    "POST /me/factor/off": Role.VIEWER,
    "POST /me/others": Role.VIEWER,
    "POST /me/password": Role.VIEWER,
    "POST /people/invite": Role.ADMIN,
    "POST /people/{person_id}/lock": Role.ADMIN,
    "POST /people/{person_id}/remove": Role.ADMIN,
    "POST /people/{person_id}/reset": Role.ADMIN,
    "POST /people/{person_id}/role": Role.ADMIN,
    "POST /people/{person_id}/unlock": Role.ADMIN,
    "POST /plans/new": Role.MANAGER,
    "POST /plans/{plan}/approve": Role.MANAGER,
    "POST /plans/{plan}/reject": Role.MANAGER,
    "POST /settings/agent/restart": Role.ADMIN,
    "POST /settings/agent/start": Role.ADMIN,
    "POST /settings/agent/stop": Role.ADMIN,
    "POST /settings/policy": Role.ADMIN,
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


def test_what_is_not_there_is_not_told_to_strangers(page):
    assert 404 == page.browser().get("/nothing").status_code
    assert 404 == page.browser(Role.ADMIN).get("/people/1/nothing").status_code
    assert 405 == page.browser(Role.ADMIN).client.delete("/people").status_code


# Forged requests.


def test_a_form_needs_the_token_of_its_own_session(page):
    admin, other = page.browser(Role.ADMIN), page.browser(Role.MANAGER)
    form = {"name": "mallory", "role": "ADMIN"}
    forged = [
        {},
        {"csrf": ""},
        {"csrf": "0" * 64},
        {"csrf": other.token()},
        {"csrf": form_token(b"another secret", admin.cookie)},
    ]

    answers = [admin.client.post("/people/invite", data={**form, **token}) for token in forged]

    assert [403] * len(forged) == [answer.status_code for answer in answers]
    assert all(one.name != "mallory" for one in page.site.people.list())


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_a_form_that_another_site_sent_is_refused_even_with_a_token(headers, page):
    answer = page.browser(Role.ADMIN).post(
        "/people/invite", {"name": "mallory", "role": "ADMIN"}, headers=headers
    )

    assert 403 == answer.status_code


def test_a_script_may_send_the_token_as_a_header(page):
    admin = page.browser(Role.ADMIN)
    admin.client.post(
        "/people/invite", data={"name": "carol", "role": "VIEWER"}, headers={"x-csrf-token": admin.token()}
    )

    assert "carol" in [one.name for one in page.site.people.list()]


def test_the_login_itself_cannot_be_forged(page):
    """Else another site could log a person in to an account of the attacker."""
    browser = page.browser()
    stranger = page.browser()

    answer = browser.client.post(
        "/login", data={"name": "viewer", "password": PASSWORD, "csrf": stranger.token()}
    )

    assert 403 == answer.status_code


# Sessions.


def test_a_login_makes_a_token_that_nobody_can_have_planted(page):
    browser = page.browser()
    before = browser.cookie

    assert 303 == browser.log_in("admin").status_code
    assert before != browser.cookie
    planted = page.browser()
    planted.client.cookies.set(page.site.cookie, before)
    assert 303 == planted.get("/").status_code


def test_a_second_login_ends_the_session_before(page):
    browser = page.browser(Role.VIEWER)
    stolen = browser.cookie
    browser.log_in("admin")
    thief = page.browser()
    thief.client.cookies.clear()
    thief.client.cookies.set(page.site.cookie, stolen)

    assert 303 == thief.get("/").status_code


def test_the_database_holds_no_token_that_could_be_used(page):
    browser = page.browser(Role.ADMIN)
    link = page.site.links.make(None)
    with page.site.store.read() as db:
        kept = "\n".join(db.iterdump())

    assert browser.cookie not in kept
    assert link not in kept
    assert PASSWORD not in kept
    assert 0o600 == page.home.gui_path.stat().st_mode & 0o777


def test_a_logout_ends_the_session_not_only_the_cookie(page):
    browser = page.browser(Role.VIEWER)
    kept = browser.cookie
    browser.post("/logout")
    browser.client.cookies.set(page.site.cookie, kept)

    assert 303 == browser.get("/").status_code


def test_a_session_ends_without_use_and_in_any_case(page):
    idle, busy = page.browser(Role.VIEWER), page.browser(Role.VIEWER)
    for _ in range(int(LIFE_S / (IDLE_S - 60))):
        page.clock.advance(IDLE_S - 60)
        assert 200 == busy.get("/me").status_code
    assert 303 == idle.get("/me").status_code

    page.clock.advance(IDLE_S - 60)
    assert 303 == busy.get("/me").status_code


def test_a_page_that_refreshes_itself_keeps_no_session_alive(page):
    browser = page.browser(Role.VIEWER)
    for _ in range(3):
        page.clock.advance(IDLE_S / 2 - 1)
        browser.get("/", headers={"x-watching": "yes"})

    assert 303 == browser.get("/").status_code


def test_a_locked_or_removed_account_is_out_at_once(page):
    admin, viewer, manager = page.browser(Role.ADMIN), page.browser(Role.VIEWER), page.browser(Role.MANAGER)
    admin.post(f"/people/{page.people[Role.VIEWER].person_id}/lock")
    admin.post(f"/people/{page.people[Role.MANAGER].person_id}/remove")

    assert [303, 303] == [viewer.get("/me").status_code, manager.get("/me").status_code]
    assert 401 == viewer.log_in("viewer").status_code


def test_a_locked_account_is_out_even_if_its_session_was_left(page):
    viewer = page.browser(Role.VIEWER)
    page.site.people.lock(page.people[Role.VIEWER], locked=True)

    assert 303 == viewer.get("/me").status_code


def test_a_role_that_is_taken_away_counts_at_once(page):
    second = page.site.people.add("second", Role.ADMIN, PASSWORD)
    browser = page.browser()
    browser.log_in("second")
    page.browser(Role.ADMIN).post(f"/people/{second.person_id}/role", {"role": "VIEWER"})

    assert 403 == browser.get("/people").status_code


# Guessing.


def test_guesses_about_an_account_are_slowed_down_even_if_the_last_is_right(page):
    browser = page.browser()
    answers = [browser.log_in("admin", "wrong password") for _ in range(throttle.FREE)]
    assert {401} == {answer.status_code for answer in answers}

    assert 429 == browser.log_in("admin").status_code
    page.clock.advance(throttle.FIRST_WAIT_S + 1)
    assert 303 == browser.log_in("admin").status_code


def test_guesses_over_many_accounts_are_slowed_down_by_their_address(page):
    browser = page.browser()
    answers = [
        browser.log_in(f"name{number}", "wrong password").status_code
        for number in range(throttle.FREE_OF_ADDRESS + 1)
    ]

    assert [401] * throttle.FREE_OF_ADDRESS + [429] == answers


def test_a_login_does_not_tell_which_accounts_there_are(page):
    known, unknown = page.browser(), page.browser()
    one, other = known.log_in("admin", "wrong password"), unknown.log_in("nobody", "wrong password")

    def shape(answer, name, browser):
        return answer.text.replace(name, "").replace(browser.token(), "")

    assert one.status_code == other.status_code
    assert shape(one, "admin", known) == shape(other, "nobody", unknown)


def test_an_unknown_name_costs_as_many_hashes_as_a_known_one(page, monkeypatch):
    tried = []
    monkeypatch.setattr(page.site.people, "_matches", lambda known, password: tried.append(known) or False)
    page.browser().log_in("admin", "wrong password")
    page.browser().log_in("nobody", "wrong password")

    assert 2 == len(tried)


def test_guessing_the_own_password_in_an_open_browser_is_slowed_down(page):
    browser = page.browser(Role.VIEWER)
    form = {"password": "another good password", "repeated": "another good password"}
    for _ in range(throttle.FREE):
        assert 422 == browser.post("/me/password", {"current": "wrong", **form}).status_code

    browser.post("/me/password", {"current": PASSWORD, **form})
    assert page.site.people.verified("viewer", PASSWORD) is not None


@pytest.mark.parametrize("password", ["short", "a" * PASSWORD_LENGTH, "carol likes carol", "x" * 201])
def test_a_weak_password_is_refused_and_the_link_stays_good(password, page):
    link = page.site.links.make(page.site.people.add("carol", Role.VIEWER))

    answer = page.browser().post(f"/join/{link}", {"password": password, "repeated": password})

    assert 422 == answer.status_code
    assert page.site.links.look(link)


# Second factor.


def factor_of(page, role):
    """Turn the second factor of an account on; return its app and its recovery codes."""
    secret = pyotp.random_base32()
    app = pyotp.TOTP(secret)
    codes = page.site.second_factors.turn_on(page.people[role], secret, app.at(int(page.clock.now())))
    page.clock.advance(30)
    return app, codes


def test_the_password_alone_opens_nothing(page):
    factor_of(page, Role.ADMIN)
    browser = page.browser()
    answer = browser.log_in("admin")

    assert "/login/code" == answer.headers["location"].partition("?")[0]
    assert 303 == browser.get("/").status_code
    assert 303 == browser.post("/people/invite", {"name": "mallory", "role": "ADMIN"}).status_code
    page.clock.advance(HALF_LIFE_S + 1)
    assert "/login" == browser.get("/login/code").headers["location"]


def test_a_code_works_once_and_so_does_a_recovery_code(page):
    app, codes = factor_of(page, Role.ADMIN)
    now = app.at(int(page.clock.now()))

    def entered(code):
        browser = page.browser()
        browser.log_in("admin")
        return browser.post("/login/code", {"code": code}).status_code

    assert [303, 401] == [entered(now), entered(now)]
    assert [303, 401] == [entered(codes[0].upper()), entered(codes[0])]
    assert len(codes) - 1 == page.site.second_factors.codes_left(page.people[Role.ADMIN])


def test_a_code_from_before_one_that_was_used_is_of_no_use(page):
    app, _ = factor_of(page, Role.ADMIN)
    late = app.at(int(page.clock.now()) - 30)

    assert page.site.second_factors.passes(page.people[Role.ADMIN], app.at(int(page.clock.now())))
    assert not page.site.second_factors.passes(page.people[Role.ADMIN], late)


def test_guessing_codes_is_slowed_down_and_a_right_password_does_not_reset_that(page):
    app, _ = factor_of(page, Role.ADMIN)
    answers = []
    for _ in range(throttle.FREE):
        browser = page.browser()
        browser.log_in("admin")
        answers.append(browser.post("/login/code", {"code": "000000"}).status_code)
    browser = page.browser()
    browser.log_in("admin")

    assert [401] * throttle.FREE == answers
    assert 429 == browser.post("/login/code", {"code": app.at(int(page.clock.now()))}).status_code


def turned_on(page, browser, **form):
    """Turn the second factor on with what the form shows; return the answer and the app."""
    secret = re.search(r'name="secret" value="(\w{32})"', browser.get("/me/factor").text)[1]
    app = pyotp.TOTP(secret)
    return browser.post(
        "/me/factor", {"secret": secret, "code": app.at(int(page.clock.now())), "current": PASSWORD, **form}
    ), app


def test_a_second_factor_is_turned_on_by_password_and_code_and_logs_the_other_browsers_out(page):
    here, there = page.browser(Role.VIEWER), page.browser(Role.VIEWER)

    answer, app = turned_on(page, here)

    codes = re.findall(r"(?:\w{4}-){3}\w{4}", answer.text)
    assert (200, 10) == (answer.status_code, len(codes))
    assert [200, 303] == [here.get("/me").status_code, there.get("/me").status_code]
    page.clock.advance(30)
    there.log_in("viewer")
    assert 303 == there.post("/login/code", {"code": app.at(int(page.clock.now()))}).status_code
    assert 200 == there.get("/me").status_code
    assert ("person viewer (web)", "turned the own second factor on") in [
        (one.actor, one.note) for one in read_records(page.home.audit_path)
    ]


@pytest.mark.parametrize("form", [{"current": "wrong"}, {"current": ""}, {"code": "000000"}], ids=str)
def test_who_finds_an_open_browser_cannot_turn_on_a_factor_of_their_own(form, page):
    browser = page.browser(Role.VIEWER)

    answer, _ = turned_on(page, browser, **form)

    assert 422 == answer.status_code
    assert not page.site.people.get(page.people[Role.VIEWER].person_id).second_factor


def test_a_second_factor_is_turned_off_by_the_password_alone(page):
    browser, person = page.browser(Role.VIEWER), page.people[Role.VIEWER]
    factor_of(page, Role.VIEWER)

    assert 422 == browser.post("/me/factor/off", {"current": "wrong"}).status_code
    assert page.site.people.get(person.person_id).second_factor
    assert 303 == browser.post("/me/factor/off", {"current": PASSWORD}).status_code
    assert not page.site.people.get(person.person_id).second_factor


# Links.


def test_a_link_works_once(page):
    link = page.site.links.make(page.site.people.add("carol", Role.VIEWER))
    form = {"password": "a good new password", "repeated": "a good new password"}

    first = page.browser().post(f"/join/{link}", form)
    second = page.browser().post(f"/join/{link}", form)

    assert [303, 422] == [first.status_code, second.status_code]
    assert 422 == page.browser().get(f"/join/{link}").status_code


def test_a_link_expires_and_a_newer_one_takes_its_place(page):
    carol = page.site.people.add("carol", Role.VIEWER)
    old, new = page.site.links.make(carol), page.site.links.make(carol)
    assert [422, 200] == [page.browser().get(f"/join/{link}").status_code for link in (old, new)]

    page.clock.advance(LINK_LIFE_S + 1)
    assert 422 == page.browser().get(f"/join/{new}").status_code


def test_a_link_for_one_account_makes_no_other(page):
    link = page.site.links.make(page.site.people.add("carol", Role.VIEWER))
    form = {
        "name": "mallory",
        "role": "ADMIN",
        "password": "a good new password",
        "repeated": "a good new password",
    }
    page.browser().post(f"/join/{link}", form)

    assert {"admin", "carol", "manager", "viewer"} == {one.name for one in page.site.people.list()}
    assert Role.VIEWER == page.site.people.verified("carol", "a good new password").role


# Requests that should not have come.


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "lyon", "127.0.0.1@evil.example", ""]
)
def test_a_name_that_somebody_else_points_here_shows_nothing(host, page):
    """DNS rebinding: a site makes its own name resolve to this machine, and reads what its visitors may see."""
    answer = page.browser(Role.ADMIN).get("/", headers={"host": host})

    assert 421 == answer.status_code
    assert "lyon" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8484", "LOCALHOST", "[::1]:8484"])
def test_the_names_of_this_machine_do(host, page):
    assert 200 == page.browser().get("/login", headers={"host": host}).status_code


def test_a_body_that_is_too_large_is_refused_with_or_without_its_length(page):
    admin = page.browser(Role.ADMIN)
    stated = admin.post("/people/invite", {"name": "x" * 2**20})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    counted = admin.client.post(
        "/people/invite", content=iter([b"name=" + b"x" * 2**16] * 8), headers=headers
    )

    assert [413, 413] == [stated.status_code, counted.status_code]


@pytest.mark.parametrize("length", ["-1", "1e9", "9" * 30, "x"])
def test_a_length_that_is_none_is_refused(length, page):
    assert 413 == page.browser().client.post("/login", headers={"content-length": length}).status_code


def test_a_form_with_too_many_parts_is_refused(page):
    answer = page.browser(Role.ADMIN).post(
        "/people/invite", files=[(f"f{n}", (f"{n}.txt", b"x")) for n in range(9)]
    )

    assert 400 == answer.status_code


@pytest.mark.parametrize(
    "path",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "....//app.py",
        "/etc/passwd",
        "%00",
        "htmx.min.js%00.css",
        "../../policy.toml",
    ],
)
def test_no_path_leads_out_of_the_static_files(path, page):
    digest = page.site.views.globals["static"]["page.css"].split("/")[2]

    assert page.browser().get(f"/static/{digest}/{path}").status_code in {404, 303}
    assert page.browser().get(f"/static/{path}").status_code in {404, 303}


def test_a_static_file_has_its_own_type_and_no_cookie(page):
    path = page.site.views.globals["static"]["htmx.min.js"]
    answer = page.browser(Role.VIEWER).get(path)

    assert static_files()["htmx.min.js"] == answer.content
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example"],
)
def test_a_login_leads_to_no_other_site(path, page):
    answer = page.browser().post("/login", {"name": "viewer", "password": PASSWORD, "next": path})

    assert "/" == answer.headers["location"]


# What leaves.

PROTECTIONS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def test_every_answer_carries_the_protections(page):
    admin, stranger = page.browser(Role.ADMIN), page.browser()
    answers = [
        admin.get("/"),
        admin.get("/nothing"),
        admin.get(page.site.views.globals["static"]["page.css"]),
        admin.client.post("/people/invite"),
        admin.post("/people/invite", {"name": "!", "role": "ADMIN"}),
        stranger.get("/"),
        stranger.get("/login"),
        stranger.get("/", headers={"host": "evil.example"}),
        stranger.client.post("/login", headers={"content-length": "x"}),
    ]
    for answer in answers:
        assert PROTECTIONS == {name: answer.headers.get(name) for name in PROTECTIONS}, answer.url
        policy = dict(
            part.partition(" ")[::2] for part in answer.headers["content-security-policy"].split("; ")
        )
        assert ("'none'", "'self'", "'self'", "'none'", "'self'", "'none'") == tuple(
            policy[name]
            for name in (
                "default-src",
                "script-src",
                "style-src",
                "frame-ancestors",
                "form-action",
                "base-uri",
            )
        )
        assert "unsafe" not in str(policy)
    assert {"no-store"} == {
        answer.headers["cache-control"] for answer in answers if "/static/" not in str(answer.url)
    }


@pytest.mark.parametrize("tls", [False, True])
def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(tls, tmp_path):
    page = Page(make_page_home(tmp_path), tls=tls)
    browser = page.browser(base=f"{'https' if tls else 'http'}://localhost")
    browser.client.cookies.clear()
    name, *flags = browser.get("/login").headers["set-cookie"].lower().split("; ")
    page.close()

    assert {"httponly", "path=/", "samesite=strict"} | ({"secure"} if tls else set()) == set(flags)
    assert name.startswith("__host-warren-lyon=" if tls else "warren-lyon=")


HOSTILE = "<script>alert(1)</script>\u202e\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A page over names that researchers and files could have."""
    home = make_page_home(tmp_path_factory.mktemp("hostile"))
    approvals, registry = Approvals(home.registry_path), Registry(home.registry_path)
    for number in range(2):
        source = f"# {HOSTILE} {number}\nclass Plan: pass\n"
        approvals.request(name=HOSTILE, announced=plan_hash(source), source=source, by="lab", note=HOSTILE)
    path = write_table(home.path / f"{HOSTILE.replace('/', '')}.csv")
    registry.add(path, name=HOSTILE, tags=[HOSTILE], description=HOSTILE)
    approvals.close()
    registry.close()
    facts = {"at": HOSTILE, "level": "info", "message": HOSTILE, HOSTILE: HOSTILE}
    home.log_path.write_text(json.dumps(facts) + "\n" + HOSTILE + "\n")
    home.settings_path.write_text(f"# {HOSTILE}\n")
    page = Page(home)
    yield page.browser(Role.ADMIN)
    page.close()


@pytest.mark.parametrize(
    "path",
    sorted(
        route.path
        for route in ROUTES.values()
        if route.method == "GET" and "{" not in route.path and route.path != "/live"
    ),
)
def test_hostile_names_are_shown_as_text(path, hostile):
    answer = hostile.get(path, params={"search": HOSTILE, "next": HOSTILE, "level": HOSTILE, "page": HOSTILE})

    assert 500 != answer.status_code
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "\u202e" not in answer.text


def test_what_was_typed_comes_back_as_text(hostile):
    answers = [
        hostile.post("/people/invite", {"name": HOSTILE, "role": "ADMIN"}),
        hostile.post("/settings/policy", {"text": HOSTILE, "seen": HOSTILE, "do": "check"}),
        hostile.get(f"/join/{HOSTILE.replace('/', '')}"),
        hostile.get("/<script>alert(1)<"),
    ]

    assert [422, 422, 422, 404] == [answer.status_code for answer in answers]
    assert not [answer for answer in answers if "<script>alert" in answer.text or "<img src=x" in answer.text]


def test_templates_hold_no_inline_script_or_style():
    """The content security policy would stop them; so they would be dead, or somebody would weaken the policy."""
    for name, text in templates().items():
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)|hx-on|hx-vals=.js:", text
        ), name
        assert "|safe" not in text.replace("'inputmode=\"numeric\"'|safe", ""), name


def templates():
    folder = files("node.gui") / "templates"
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


# The audit log.


def test_what_people_do_is_recorded_with_their_name(page):
    admin = page.browser(Role.ADMIN)
    page.browser().log_in("admin", "wrong password")
    page.browser().log_in("my secret password", "admin")
    admin.post("/people/invite", {"name": "carol", "role": "VIEWER"})
    admin.post(f"/people/{page.people[Role.VIEWER].person_id}/role", {"role": "MANAGER"})
    admin.post("/logout")

    told = [(one.action, one.actor, one.outcome, one.note) for one in read_records(page.home.audit_path)][-6:]

    assert [
        ("page_login", "person admin (web)", "done", "as admin"),
        ("page_login", "person admin (web)", "refused", "name or password wrong"),
        ("page_login", "person somebody (web)", "refused", "name or password wrong"),
        ("person_invited", "person admin (web)", "done", "carol as viewer"),
        ("person_changed", "person admin (web)", "done", "viewer from viewer to manager"),
        ("page_logout", "person admin (web)", "done", None),
    ] == told


def test_every_decision_about_an_account_is_recorded(page):
    admin, viewer = page.browser(Role.ADMIN), page.people[Role.VIEWER].person_id
    other = page.browser(Role.MANAGER)
    before = len(list(read_records(page.home.audit_path)))
    for act in ("lock", "unlock", "reset", "remove"):
        admin.post(f"/people/{viewer}/{act}")
    passwords = {"password": "another good password", "repeated": "another good password"}
    other.post("/me/password", {"current": PASSWORD, **passwords})
    other.post("/me/others")

    told = [(one.action, one.actor, one.note) for one in read_records(page.home.audit_path)][before:]

    admins, managers = "person admin (web)", "person manager (web)"
    assert [
        ("person_changed", admins, "viewer locked"),
        ("person_changed", admins, "viewer unlocked"),
        ("person_changed", admins, "viewer got a link for another password"),
        ("person_changed", admins, "viewer removed"),
        ("person_changed", managers, "changed the own password"),
        ("page_logout", managers, "all other browsers"),
    ] == told


def test_all_other_browsers_are_logged_out_and_this_one_is_not(page):
    here, there, admin = page.browser(Role.VIEWER), page.browser(Role.VIEWER), page.browser(Role.ADMIN)
    here.post("/me/others")

    assert [200, 303, 200] == [one.get("/me").status_code for one in (here, there, admin)]


def test_what_cannot_be_recorded_is_not_done(page):
    admin = page.browser(Role.ADMIN)
    anchor = page.home.path / "audit.anchor"
    kept = anchor.read_bytes()
    anchor.write_bytes(b"no anchor")

    answer = admin.post("/people/invite", {"name": "carol", "role": "ADMIN"})

    anchor.write_bytes(kept)
    assert 422 == answer.status_code
    assert "carol" not in [one.name for one in page.site.people.list()]


def test_an_admin_cannot_be_without_a_successor_or_change_the_own_account(page):
    admin, me = page.browser(Role.ADMIN), page.people[Role.ADMIN].person_id

    answers = [
        admin.post(f"/people/{me}/{act}", {"role": "VIEWER"}).status_code
        for act in ("role", "lock", "remove", "reset")
    ]

    assert [422] * 4 == answers
    assert page.site.people.anybody()


def test_there_is_always_an_admin_who_can_log_in(page):
    """Two who act on each other at the same moment find this in the database, and not only on the page."""
    people, admin = page.site.people, page.people[Role.ADMIN]
    people.add("invited", Role.ADMIN)
    for act in (
        lambda: people.set_role(admin, Role.MANAGER),
        lambda: people.lock(admin, locked=True),
        lambda: people.remove(admin),
    ):
        with pytest.raises(AccountError, match="no admin would be left"):
            act()

    assert admin == people.get(admin.person_id)


@pytest.mark.parametrize("number", ["999", "0", "-1", "x", "1e3", "9" * 30, "%31%00"])
def test_an_account_that_is_not_there_is_no_fault(number, page):
    assert page.browser(Role.ADMIN).post(f"/people/{number}/lock").status_code in {404, 422}
