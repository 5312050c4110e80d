"""What a person sees of a running experiment."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from common.ids import derived_uuid
from common.messages import LossPoint, PayloadManifest, TaskState
from researcher.history import NodeRecord, RoundRecord, mean_loss
from researcher.monitoring import (
    NodeChanged,
    NodeProgress,
    RoundEnded,
    RoundOpened,
    RunEnded,
    RunStarted,
    TaskLost,
    TerminalView,
    UpdateArrived,
)
from researcher.round import RoundState

NODES = ("north", "south")


def point(loss):
    return LossPoint(iteration=1, epoch=1, samples=10, loss=loss)


def answer(node, loss, seen, outcome="accepted", reason=None):
    return NodeRecord(
        node, outcome, 1, reason=reason, losses=(point(loss),), samples_seen=seen, answered_s=0.25
    )


def record(state=RoundState.CLOSED, reason=None):
    return RoundRecord(
        round=1,
        run=derived_uuid("run"),
        kind="train",
        state=state,
        reason=reason,
        base="0" * 64,
        sent=PayloadManifest(sha256="0" * 64, size_bytes=100, inline=True),
        encoding="raw",
        model="1" * 64,
        reserve=(),
        agg_optimizer=None,
        aggregator={"name": "FedAverage"},
        strategy={"name": "DefaultStrategy"},
        opened_at=100.0,
        deadline=None,
        closed_at=100.5,
        nodes={"north": answer("north", 0.25, 10), "south": answer("south", 0.5, 30)},
    )


EVENTS = (
    RunStarted(derived_uuid("experiment"), "heart [1]", derived_uuid("run"), NODES, 1, 2),
    RoundOpened(1, "train", NODES, 100.0, resumed=False),
    NodeProgress(1, "north", TaskState.RUNNING, (point(0.75),)),
    NodeChanged("south", online=False, at=100.1),
    TaskLost(1, "south", "WRN-601: the worker ended", retried=True),
    UpdateArrived(1, answer("north", 0.25, 10)),
    UpdateArrived(1, answer("south", 0.5, 30, "refused", "not finite")),
    RoundEnded(record()),
    RunEnded(1, None, 0.6),
)


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


def test_quiet_says_only_what_went_wrong():
    text = shown(quiet=True)

    assert "round 1/2" not in text
    assert "south is offline" in text


def test_a_terminal_shows_a_table_of_the_nodes():
    text = shown(terminal=True)

    assert "round 1 of 2" in text
    assert "north" in text
    assert "\x1b" in text


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
