"""When a round may close, and how strategies are written down."""

from __future__ import annotations

import pytest

from common.errors import InvalidSettingsError
from researcher.strategies import (
    Close,
    DefaultStrategy,
    Fail,
    MinimumStrategy,
    RoundView,
    Wait,
    strategy_config,
    strategy_of,
)


def view(accepted="", waiting="", lost=None, *, offline="", overdue=False, sampled=None, reserve=""):
    everyone = len(accepted) + len(waiting) + len(lost or {})
    return RoundView(
        round=1,
        accepted=set(accepted),
        lost=lost or {},
        waiting=set(waiting),
        offline=set(offline),
        overdue=overdue,
        sampled=everyone if sampled is None else sampled,
        reserve=tuple(reserve),
    )


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (view("ab", "c"), Wait()),
        (view("ab", "c", offline="c"), Wait()),
        (view("abc"), Close()),
        (view("ab", lost={"c": "broke"}), Fail("c: broke")),
        (view("a", "b", lost={"d": "two", "c": "one"}), Fail("c: one; d: two")),
    ],
)
def test_the_default_strategy_needs_everybody(seen, expected):
    assert expected == DefaultStrategy().decide(seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (view("a", "bc"), Wait()),
        (view("ab", "c"), Wait()),
        (view("abc"), Close()),
        (view("ab", "c", offline="c"), Close()),
        (view("ab", "c", overdue=True), Close()),
        (view("a", "bc", overdue=True), Fail("1 of 2 updates at the deadline")),
        (view("ab", lost={"c": "broke"}), Close()),
        (view("a", "", lost={"b": "x", "c": "y"}), Fail("1 of 2 updates (b: x; c: y)")),
    ],
)
def test_the_minimum_strategy_closes_with_enough(seen, expected):
    assert expected == MinimumStrategy(min_nodes=2).decide(seen)


def test_a_fraction_is_of_the_nodes_asked_and_rounded_up():
    half = MinimumStrategy(min_fraction=0.5)

    assert Wait() == half.decide(view("a", "bc", offline="bc"))
    assert Close() == half.decide(view("ab", "c", offline="c"))


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({}, "give min_nodes or min_fraction"),
        ({"min_nodes": 1, "min_fraction": 0.5}, "give min_nodes or min_fraction"),
        ({"min_nodes": 0}, "min_nodes"),
        ({"min_fraction": 1.5}, "min_fraction"),
        ({"min_nodes": 1, "deadline_s": 0}, "deadline_s"),
    ],
)
def test_a_wrong_minimum_is_refused_with_a_reason(settings, mistake):
    with pytest.raises(InvalidSettingsError, match=mistake):
        MinimumStrategy(**settings)


@pytest.mark.parametrize(
    "strategy", [DefaultStrategy(retries=3), MinimumStrategy(min_fraction=0.5, deadline_s=60)]
)
def test_a_strategy_survives_being_written_down(strategy):
    assert strategy == strategy_of(strategy_config(strategy))


@pytest.mark.parametrize("config", [{"name": "Unknown"}, {}, {"name": "DefaultStrategy", "patience": 1}])
def test_a_configuration_that_means_nothing_is_refused(config):
    with pytest.raises(InvalidSettingsError):
        strategy_of(config)
