"""What a person sees of a running experiment."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from researcher.history import mean_loss
from researcher.monitoring import (
    RoundEnded,
    RoundOpened,
    RunEnded,
    TaskLost,
    TerminalView,
)
from researcher.monitoring.terminal import spark
from researcher.round import RoundState
from tests.support.events import EVENTS, NODES, record


def shown(*, terminal=False, quiet=False, events=EVENTS):
    out = io.StringIO()
    view = TerminalView(Console(file=out, force_terminal=terminal, width=120, highlight=False), quiet=quiet)
    for event in events:
        view.on_event(event)
    return out.getvalue()


def test_without_a_terminal_each_round_is_one_plain_line():
    text = shown()

    assert "\x1b" not in text
    assert "heart [1]: rounds 1 to 2 at north, south" in text
    assert "round 1/2 | closed | 2 of 2 nodes | loss 0.4375 | 0.500 s | north 0.2500, south 0.5000" in text
    assert "heart [1]: 1 round in 0.60 s, loss 0.4375" in text


def test_what_went_wrong_is_said():
    text = shown()

    assert "south is offline" in text
    assert "south: WRN-601: the worker ended, asked again" in text
    assert "south: update refused, not finite" in text


def test_what_a_node_says_moves_no_terminal():
    text = shown(events=[*EVENTS, TaskLost(1, NODES[0], "\x1b[2Jall is well\x07", retried=False)])

    assert "\x1b" not in text
    assert r"\u{1b}[2Jall is well\u{7}" in text


def test_quiet_says_only_what_went_wrong():
    text = shown(quiet=True)

    assert "round 1/2" not in text
    assert "south is offline" in text


def test_a_terminal_shows_a_table_of_the_nodes():
    text = shown(terminal=True)

    assert "round 1 of 2" in text
    assert "north" in text
    assert "\x1b" in text


def test_the_bar_counts_what_was_done_before_somebody_looked_on():
    out = io.StringIO()
    view = TerminalView(Console(file=io.StringIO(), width=80))
    view.on_event(dataclasses.replace(EVENTS[0], first=11, last=34))
    view.on_event(RoundOpened(23, "train", NODES, 1.0, resumed=False))
    Console(file=out, width=80, color_system=None).print(view._render())

    head, *rows = out.getvalue().splitlines()
    assert head.startswith("heart [1] · round 23 of 34 · 0 of 2 nodes ━━━")
    assert 8 == head.count("━")
    assert 3 == len(rows)


def test_a_failed_round_is_told_with_its_reason():
    text = shown(events=(*EVENTS[:2], RoundEnded(record(RoundState.FAILED, "south: broke"))))

    assert "| failed |" in text
    assert "south: broke" in text


def test_an_error_that_ends_the_run_is_told():
    assert "WRN-703: round 1 failed" in shown(events=(EVENTS[0], RunEnded(0, "WRN-703: round 1 failed", 0.1)))


def test_resuming_is_told():
    assert "going on inside round 4" in shown(
        events=(EVENTS[0], RoundOpened(4, "train", NODES, 1.0, resumed=True))
    )


def test_the_mean_loss_is_weighted_by_samples():
    assert pytest.approx(0.4375) == mean_loss(record())


def test_the_live_view_shows_pace_what_is_left_and_the_course_of_the_loss():
    out = io.StringIO()
    console = Console(file=out, width=120, highlight=False)
    view = TerminalView(console)
    for event in EVENTS[:-1]:
        view.on_event(event)
    console.print(view._render())
    text = out.getvalue()

    assert "s a round" in text
    assert "samples/s" in text
    assert " left" in text
    assert "▁" in text


def test_a_sparkline_goes_from_the_least_to_the_greatest():
    assert "█▄▁" == spark([3.0, 2.0, 1.0])
    assert "▁▁" == spark([1.0, 1.0])
