"""The small parts of the web page: texts, files of others, waiting times, pages of long tables, sizes."""

import hashlib
import re
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.errors import MissingExtraError
from node.cli.gui import LIBRARIES, page_of
from node.gui.border import _host
from node.gui.pages import AREAS
from node.gui.paging import slice_of
from node.gui.people import Role
from node.gui.texts import known
from node.gui.throttle import FIRST_WAIT_S, FREE, FREE_OF_ADDRESS, LONGEST_WAIT_S, Throttle
from node.gui.view import environment, static_files
from node.gui.visit import within
from node.sandbox import ProtectionName

PACKAGE = files("node.gui")
SOURCES = {
    path.name: path.read_text(encoding="utf-8")
    for folder in (PACKAGE, PACKAGE / "pages", PACKAGE / "templates")
    for path in folder.iterdir()
    if path.name.endswith((".py", ".html"))
}
ASKED = re.compile(r"""\bt\(\s*["']([a-z_]+\.[A-Za-z_]+)["']\s*([,~)])""")


def test_every_text_that_is_asked_for_is_there():
    asked = {key for text in SOURCES.values() for key, end in ASKED.findall(text) if end != "~"}

    assert set() == asked - known().keys()


def test_every_text_is_used():
    """Those with a name made of parts are asked for by their first part."""
    whole = "\n".join(SOURCES.values())
    parts = tuple(re.findall(r"""\bt\(f?["']([a-z_]+\.[A-Za-z_]*)(?:["']\s*~|\{)""", whole))

    unused = {key for key in known() if not re.search(rf"[\"']{re.escape(key)}[\"']", whole)}

    assert set() == {key for key in unused if not key.startswith(parts)}


def test_every_template_can_be_read():
    views = environment()

    assert all(views.get_template(name) for name in SOURCES if name.endswith(".html"))


def test_every_area_has_its_name_and_icon():
    icons = environment().get_template("icons.html").module
    for area in AREAS:
        if area.icon:
            assert f"nav.{area.name}" in known()
            assert "<path" in icons.icon(area.icon)


def test_every_protection_and_role_has_a_name_for_people():
    assert {f"overview.wall_{name}" for name in ProtectionName} <= known().keys()
    assert {f"nav.role_{role.name}" for role in Role if role is not Role.ANYONE} <= known().keys()


@pytest.mark.parametrize(
    "name", [name for name in static_files() if name.startswith("htmx") and name.endswith(".js")]
)
def test_files_of_others_are_what_was_written_down(name):
    stated = tomllib.loads(static_files()["vendored.toml"].decode())[name]

    assert stated["sha256"] == hashlib.sha256(static_files()[name]).hexdigest()
    assert (
        b"Zero-Clause BSD" in static_files()[stated["licence"]]
        or b"BSD Zero Clause" in static_files()[stated["licence"]]
    )
    assert stated["version"]


def test_the_look_needs_nothing_from_elsewhere():
    for name in ("page.css", "page.js"):
        assert not re.search(rb"https?:|@import|url\(", static_files()[name]), name


@given(
    st.lists(
        st.tuples(st.sampled_from(["anna", "ben", "eve"]), st.sampled_from(["here", "there"])), max_size=90
    )
)
def test_without_waiting_nobody_guesses_more_often_than_is_free(guesses):
    throttle, made = Throttle(ManualClock()), Counter()
    for name, address in guesses:
        wait = throttle.attempt(name, address)
        assert 0 <= wait <= LONGEST_WAIT_S
        if not wait:
            made.update([name, address])

    assert all(made[name] <= FREE for name in ("anna", "ben", "eve"))
    assert all(made[address] <= FREE_OF_ADDRESS for address in ("here", "there"))


def test_many_guesses_at_once_gain_nothing():
    throttle = Throttle(ManualClock())

    assert FREE == sum(throttle.attempt("anna", f"address {number}") == 0 for number in range(100))
    assert FREE_OF_ADDRESS == sum(throttle.attempt(f"name {number}", "here") == 0 for number in range(100))


def test_a_wait_doubles_up_to_the_longest():
    clock = ManualClock()
    throttle, waits = Throttle(clock), []
    for _ in range(FREE + 8):
        wait = throttle.attempt("anna", "here")
        clock.advance(wait)
        waits += [wait] if wait else []
        if wait:
            throttle.attempt("anna", "here")

    assert [min(FIRST_WAIT_S * 2**n, LONGEST_WAIT_S) for n in range(len(waits))] == waits
    assert LONGEST_WAIT_S == waits[-1]


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 60))
def test_the_pages_of_a_table_hold_each_row_once(count, page, size):
    rows = list(range(count))
    first = slice_of(rows, 1, path="/x", filters={}, size=size)
    shown = [
        row
        for number in range(1, first.pages + 1)
        for row in slice_of(rows, number, path="/x", filters={}, size=size).rows
    ]

    assert rows == shown
    assert slice_of(rows, page, path="/x", filters={}, size=size).page <= first.pages


def test_links_to_other_pages_keep_the_filters():
    middle = slice_of(range(100), 3, path="/x", filters={"search": "a&b", "level": ""}, size=10)

    assert ("/x?search=a%26b&page=2", "/x?search=a%26b&page=4") == (middle.before, middle.after)


@given(st.text())
def test_a_path_to_go_on_to_stays_on_this_site(path):
    found = within(path)

    assert found == "/" or (found.startswith("/") and found[1:2] not in {"/", "\\"})


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:8484", "localhost"), ("[::1]:8484", "[::1]"), ("[::1]", "[::1]"), ("a:b", "a:b"), ("", "")],
)
def test_a_host_header_is_its_name(header, name):
    assert name == _host(header)


def test_numbers_are_shown_for_people():
    shown = (
        environment()
        .from_string("{{ 1234567|number }} {{ 2048|size }} {{ 5|size }} {{ none|moment }} {{ 0|moment }}")
        .render()
    )

    assert "1\u202f234\u202f567 2.0 KiB 5 bytes &ndash;" in shown
    assert "<time datetime=" in shown


def test_what_hides_is_shown():
    shown = environment().from_string("{{ a }}|{{ b|lines }}").render(a="x\u202ey\n", b="one\n\u202etwo<")

    assert "x\\u{202e}y\\u{a}|one\n\\u{202e}two&lt;" == shown


def test_code_in_our_sentences_is_marked_and_nothing_else_becomes_markup():
    shown = environment().from_string("{{ a|coded }}").render(a="such as `a/*<b>` & <i>")

    assert "such as <code>a/*&lt;b&gt;</code> &amp; &lt;i&gt;" == shown


def test_the_extra_brings_what_the_page_needs_and_nothing_else():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    packages = {re.split(r"[<>=]", one)[0] for one in project["optional-dependencies"]["gui"]}
    modules = {"argon2-cffi": "argon2", "pillow": "PIL", "python-multipart": "python_multipart"}

    assert {modules.get(name, name) for name in packages} == set(LIBRARIES)
    assert 8484 == page_of(8484).port


def test_without_a_library_somebody_is_told_which_extra_to_install(monkeypatch):
    monkeypatch.setattr("node.cli.gui.LIBRARIES", ("starlette", "no_such_library"))
    with pytest.raises(MissingExtraError) as refused:
        page_of(8484)

    assert {"package": "no_such_library", "extra": "gui"}.items() <= refused.value.facts.items()


def test_the_dark_colours_are_the_same_whoever_chose_them():
    style = static_files()["page.css"].decode()
    blocks = re.findall(
        r":root(?::not\(\[data-theme=\"light\"\]\)|\[data-theme=\"dark\"\]) \{([^}]*)\}", style
    )
    chosen, asked = ({line.strip() for line in block.splitlines()} for block in blocks)

    assert chosen == asked
    assert any("--ink" in line for line in asked)
