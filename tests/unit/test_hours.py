"""When a node works: by the clock of its machine, over midnight, over the weekend and over changes of clocks."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.hours import DAYS, HOURS, WorkingHours

WEEK_S = 7 * 86400


@pytest.fixture(params=["UTC", "Europe/Paris", "America/St_Johns"])
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def at(text):
    """Return the Unix time of a local time, `Wed 18:30`, in the week of Monday 2026-11-16."""
    day, clock = text.split()
    hour, minute = map(int, clock.split(":"))
    return time.mktime((2026, 11, 16 + DAYS.index(day), hour, minute, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("hours", "within", "outside"),
    [
        ("08:00-18:00", ["Mon 08:00", "Sun 17:59"], ["Mon 07:59", "Mon 18:00"]),
        ("19:00-07:00", ["Mon 19:00", "Tue 06:59", "Mon 03:00"], ["Mon 07:00", "Mon 18:59"]),
        ("Fri 18:00-24:00", ["Fri 18:00", "Fri 23:59"], ["Sat 00:00", "Thu 20:00"]),
        ("Mon-Fri 19:00-07:00", ["Sat 06:59", "Mon 19:00"], ["Sat 07:00", "Sat 20:00", "Mon 03:00"]),
        ("Sat-Mon 00:00-24:00", ["Sat 00:00", "Sun 12:00", "Mon 23:59"], ["Tue 00:00", "Fri 23:59"]),
    ],
)
def test_tasks_begin_within_the_hours_only(zone, hours, within, outside):
    node = WorkingHours([hours])

    assert [True] * len(within) == [node.open(at(text)) for text in within]
    assert [False] * len(outside) == [node.open(at(text)) for text in outside]


def test_several_hours_add_up(zone):
    node = WorkingHours(["Mon-Fri 19:00-07:00", "Sat-Sun 00:00-24:00"])

    assert [True, True, False] == [node.open(at(text)) for text in ("Sun 12:00", "Wed 23:00", "Wed 12:00")]
    assert at("Fri 19:00") == node.changes_at(at("Fri 12:00"))
    assert at("Mon 00:00") + WEEK_S == node.changes_at(at("Fri 20:00"))


@pytest.mark.parametrize("hours", [None, ["00:00-24:00"]])
def test_a_node_that_never_closes_never_changes(zone, hours):
    node = WorkingHours(hours)

    assert (True, None) == (node.open(at("Wed 04:00")), node.changes_at(at("Wed 04:00")))


def test_clocks_that_are_changed_do_not_matter(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        evening = time.mktime((2026, 10, 24, 20, 0, 0, 0, 0, -1))  # the night of 25 hours
        assert 11 * 3600 + 3600 == WorkingHours(["19:00-07:00"]).changes_at(evening) - evening
    finally:
        monkeypatch.undo()
        time.tzset()


@given(
    st.lists(st.from_regex(re.compile(HOURS, re.ASCII), fullmatch=True), min_size=1, max_size=3),
    st.integers(1_700_000_000, 1_900_000_000),
)
def test_between_two_changes_nothing_changes(texts, moment):
    texts = [text.strip() for text in texts]
    node = WorkingHours(texts)
    change = node.changes_at(moment)

    end = moment + WEEK_S if change is None else change
    assert {node.open(moment)} == {node.open(moment + (end - moment) * share / 50) for share in range(50)}
    assert change is None or node.open(change) != node.open(moment)
