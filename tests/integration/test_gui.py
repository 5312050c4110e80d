"""The web page as a server: it tells what changes, lives beside the agent, and does what its people ask for."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.audit.record import Action, Entry
from common.errors import InvalidSettingsError, PortTakenError
from common.settings import validate
from node.gui import live
from node.gui.beside import beside
from node.gui.csrf import form_token
from node.gui.listen import Listen
from node.gui.people import Role
from node.gui.server import serve
from node.registry import Registry
from tests.support.certificates import make_authority
from tests.support.page import PASSWORD, Page, Served, logged_in, make_page_home, written

DEADLINE_S = 30


@pytest.fixture
def home(tmp_path):
    return make_page_home(tmp_path)


@pytest.fixture
def page(home):
    page = Page(home)
    yield page
    page.close()


@pytest.fixture
def served(home):
    served = Served(home, Listen(port=0))
    yield served
    served.close()


@contextlib.contextmanager
def stream(served, cookie):
    """Listen to the changes that the page tells; yield what reads the next event."""
    connection = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=DEADLINE_S)
    connection.request("GET", "/live", headers={"Cookie": cookie})
    answer = connection.getresponse()
    assert 200 == answer.status

    def following():
        while not (line := answer.readline()).startswith(b"event:"):
            assert line, "the stream ended"
        return line.decode().removeprefix("event:").strip()

    # from here on nothing is missed, and nothing was before
    assert sorted(live.TOPICS) == [following() for _ in live.TOPICS]
    try:
        yield following
    finally:
        connection.close()


def fetched(served, path, cookie):
    connection = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=DEADLINE_S)
    connection.request("GET", path, headers={"Cookie": cookie})
    status = connection.getresponse().status
    connection.close()
    return status


def test_open_pages_are_told_what_has_changed_and_not_that_somebody_looked(served):
    cookie, site = logged_in(served)
    fetched(served, "/", cookie)  # makes the databases that are not there yet
    with stream(served, cookie) as following:
        assert 200 == fetched(served, "/", cookie)  # opens all databases of the home
        served.home.audit().append(Entry(action=Action.TASK_ASKED, actor="lab"))
        assert "audit" == following()

        registry = Registry(served.home.registry_path)
        registry.remove(registry.find("trial").dataset_id)
        assert "registry" == following()
        registry.close()

        served.home.status_path.with_suffix(".new").write_text("{}")
        served.home.status_path.with_suffix(".new").rename(served.home.status_path)
        assert "agent" == following()
    site.close()


def test_a_stream_ends_with_its_session(served):
    cookie, site = logged_in(served)
    with stream(served, cookie) as following:
        site.sessions.end_all(site.people.list()[0])
        served.home.audit().append(Entry(action=Action.TASK_ASKED, actor="lab"))
        assert "ended" == following()
    site.close()


def test_more_listeners_than_the_kernel_allows_are_turned_away(served, monkeypatch):
    monkeypatch.setattr(live, "MOST", 0)
    cookie, site = logged_in(served)
    connection = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=DEADLINE_S)
    connection.request("GET", "/live", headers={"Cookie": cookie})

    assert b"" == connection.getresponse().read()
    connection.close()
    site.close()


def test_the_first_start_hands_out_a_link_and_later_ones_do_not(home):
    first = Served(home, Listen(port=0))
    assert re.fullmatch(rf"{first.address}/join/[\w-]{{43}}", first.link)
    _, site = logged_in(first)
    first.close()
    site.close()

    second = Served(home, Listen(port=0))
    assert second.link is None
    second.close()


def test_a_port_that_is_taken_is_said_so(home):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTakenError):
        serve(home, Listen(port=taken.getsockname()[1]), ready=lambda *_: None)


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"certificate": "x.pem"}, {"port": 70000}])  # noqa: S104 - refused
def test_what_others_can_reach_needs_tls(options, monkeypatch):
    monkeypatch.setattr("node.gui.listen._MARKS", ())
    with pytest.raises(InvalidSettingsError):
        validate({"port": 1, **options}, Listen, source="options")


def test_in_a_container_the_engine_says_who_can_reach_it(monkeypatch, tmp_path):
    monkeypatch.setattr("node.gui.listen._MARKS", (tmp_path,))

    assert "0.0.0.0" == str(Listen(port=1, host="0.0.0.0").host)  # noqa: S104 - of the container


def test_over_tls_the_names_of_the_certificate_count(home, tmp_path):
    issued = make_authority().issue("localhost")
    (tmp_path / "cert.pem").write_bytes(issued.cert_pem)
    (tmp_path / "key.pem").write_bytes(issued.key_pem)
    served = Served(home, Listen(port=0, certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"))
    served.close()

    assert served.address.startswith("https://")


# Beside the agent.


def test_the_page_ends_with_the_agent_however_that_ends(home):
    reader, writer = os.pipe()
    listen = Listen(port=0).model_dump_json()
    command = [sys.executable, "-P", "-m", "node.gui.server", home.path, str(reader), listen, "terminal"]
    process = subprocess.Popen(command, pass_fds=(reader,), stdout=subprocess.PIPE, text=True)
    assert "the page of lyon is at" in process.stdout.readline()
    assert "/join/" in process.stdout.readline()

    os.close(writer)  # as the kernel does when the agent is killed

    assert 0 == process.wait(DEADLINE_S)
    process.stdout.close()
    os.close(reader)


def test_a_page_that_cannot_start_leaves_the_agent_alone(home):
    with socket.create_server(("127.0.0.1", 0)) as taken, beside(home, Listen(port=taken.getsockname()[1])):
        assert written(home.log / "gui.out", "WRN-318")


def test_without_a_terminal_the_link_goes_into_a_private_file(home):
    with beside(home, Listen(port=0)):
        written(home.log / "gui.out", "gui.link")
        link = home.gui_link_path.read_text().strip()
        assert 0o600 == home.gui_link_path.stat().st_mode & 0o777
    assert re.search(r"/join/[\w-]{43}$", link)


def test_an_agent_whose_output_is_kept_as_a_log_prints_no_link_there(home):
    """Docker and systemd keep what it prints, and more people read that than the one who may make the first account."""
    command = [Path(sys.executable).with_name("warren-node"), "start", home.path, "--gui", "--gui-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as agent:
        try:
            written(home.log / "gui.out", "gui.link")
        finally:
            agent.terminate()
        printed, _ = agent.communicate(timeout=DEADLINE_S)

    link = home.gui_link_path.read_text().strip()
    assert re.search(r"/join/[\w-]{43}$", link)
    assert link not in printed


# What its people do.


def test_a_person_is_invited_and_joins(page):
    answer = page.browser(Role.ADMIN).post("/people/invite", {"name": "carol", "role": "MANAGER"})
    link = re.search(r"http://127.0.0.1:8484(/join/[\w-]{43})", answer.text)[1]
    browser = page.browser()

    assert "carol" in browser.get(link).text
    assert "/" == browser.post(link, {"password": PASSWORD, "repeated": PASSWORD}).headers["location"]
    assert "carol" in browser.get("/").text


def test_the_first_link_makes_an_admin_and_its_file_goes(page):
    page.home.gui_link_path.write_text("link")
    link = page.site.links.make(None)
    browser = page.browser()
    browser.post(f"/join/{link}", {"name": "zoe", "password": PASSWORD, "repeated": PASSWORD})

    assert Role.ADMIN is page.site.people.verified("zoe", PASSWORD).role
    assert not page.home.gui_link_path.exists()


def test_people_are_found_by_a_part_of_their_name(page):
    shown = page.browser(Role.ADMIN).get("/people?search=VIEW").text

    assert [True, False] == [f'<th scope="row">{name}</th>' in shown for name in ("viewer", "manager")]


def test_what_was_done_is_told_once(page):
    admin = page.browser(Role.ADMIN)
    admin.post(f"/people/{page.people[Role.VIEWER].person_id}/lock")

    assert "viewer is locked out" in admin.get("/people").text
    assert "viewer is locked out" not in admin.get("/people").text


def test_a_new_password_logs_the_other_browsers_out(page):
    here, there = page.browser(Role.VIEWER), page.browser(Role.VIEWER)
    answer = here.post(
        "/me/password",
        {"current": PASSWORD, "password": "another good password", "repeated": "another good password"},
    )

    assert 303 == answer.status_code
    assert [200, 303] == [here.get("/me").status_code, there.get("/me").status_code]
    assert 303 == page.browser().log_in("viewer", "another good password").status_code


def test_htmx_is_answered_with_a_part_and_a_place_for_it(page):
    admin = page.browser(Role.ADMIN)
    refused = admin.post("/people/999/lock", headers={"hx-request": "true"})
    done = admin.post(f"/people/{page.people[Role.VIEWER].person_id}/lock", headers={"hx-request": "true"})
    stranger = page.browser().get("/", headers={"hx-request": "true"})

    assert ("#notices", 422) == (refused.headers["hx-retarget"], refused.status_code)
    assert "WRN-322" in refused.text
    assert "<html" not in refused.text
    assert ("/people", 204) == (done.headers["hx-redirect"], done.status_code)
    assert ("/login", 401) == (stranger.headers["hx-redirect"], stranger.status_code)


def test_a_fault_gets_a_number_that_the_log_has_too(page, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError("patient 4711")

    admin = page.browser(Role.ADMIN)
    monkeypatch.setattr(page.site.people, "list", broken)
    answer = admin.get("/people")

    assert 500 == answer.status_code
    assert "4711" not in answer.text
    number = re.search(r"Its number is (\w{8})", answer.text)[1]
    assert [number] == [record.number for record in caplog.records if record.message == "page failed"]


def edited(page, **form):
    admin = page.browser(Role.ADMIN)
    seen = re.search(r'name="seen" value="(\w+)"', admin.get("/settings/policy").text)[1]
    return admin.post("/settings/policy", {"seen": seen, **form})


def test_a_policy_is_checked_before_it_counts(page):
    before = page.home.settings_path.read_text()
    checked = edited(page, text="max_workers = 3\r\n", do="check")
    wrong = edited(page, text="max_worker = 3", do="save")

    assert "max_workers" in checked.text
    assert "Saved, it changes this" in checked.text
    assert 422 == wrong.status_code
    assert "max_worker" in wrong.text
    assert before == page.home.settings_path.read_text()


def test_a_policy_is_saved_as_it_was_typed_unless_somebody_else_was_faster(page):
    assert 303 == edited(page, text="max_workers = 3\r\n", do="save").status_code
    assert "max_workers = 3\n" == page.home.settings_path.read_text()

    answer = edited(page, text="max_workers = 4\n", do="save", seen="0" * 64)
    assert 422 == answer.status_code
    assert 3 == page.home.policy().max_workers


def test_a_wrong_policy_is_shown_with_its_mistakes(page):
    admin = page.browser(Role.ADMIN)
    page.home.settings_path.write_text("max_worker = 3\n")

    assert "max_worker" in admin.get("/settings").text
    assert 200 == admin.get("/settings/policy").status_code
    assert (422, True) == ((answer := admin.get("/")).status_code, "WRN-901" in answer.text)


def test_the_log_is_shown_from_its_end_and_can_be_narrowed(page):
    lines = [
        f'{{"at": "{n}", "level": "{"error" if n % 50 == 0 else "info"}", "message": "line {n}."}}'
        for n in range(300)
    ]
    page.home.log_path.write_text("\n".join(lines) + "\n")
    manager = page.browser(Role.MANAGER)

    assert "line 299." in manager.get("/settings/log").text
    assert "line 199." not in manager.get("/settings/log").text
    assert "line 199." in manager.get("/settings/log?page=2").text
    found = manager.get("/settings/log?search=LINE+19.").text
    assert [True, False] == ["line 19." in found, "line 299." in found]
    graver = manager.get("/settings/log?level=error").text
    assert [True, False] == ["line 250." in graver, "line 299." in graver]


def test_an_expired_certificate_is_shown_and_hides_nothing_else(page):
    page.clock.advance(400 * 86400)
    viewer = page.browser(Role.VIEWER)

    assert "cannot be used" in viewer.get("/settings").text
    assert "127.0.0.1:5671" in viewer.get("/settings").text


def test_the_token_of_a_form_is_that_of_the_cookie(page):
    browser = page.browser(Role.VIEWER)

    assert form_token(page.site.secret, browser.cookie) in browser.get("/me").text
