"""When a round may close, and how strategies are written down."""

from __future__ import annotations

import pytest

from common.errors import InvalidSettingsError
from researcher.strategies import (
    Ask,
    AsyncStrategy,
    Close,
    DefaultStrategy,
    Fail,
    MinimumStrategy,
    OverSelectStrategy,
    RandomSampling,
    RoundView,
    Wait,
    WeightedSampling,
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
        (view("a", "b", lost={"c": "one"}, sampled=3, reserve="de"), Ask(1)),
        (view("a", "bd", lost={"c": "one"}, sampled=3, reserve="e"), Wait()),
        (view("abd", lost={"c": "one"}, sampled=3, reserve="e"), Close()),
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
        (view("a", "b", lost={"c": "x"}, sampled=3, reserve="d"), Ask(1)),
        (view("ab", "c", offline="c", sampled=3, reserve="d"), Ask(1)),
        (view("ab", "c", offline="c", sampled=3, reserve="d", overdue=True), Close()),
    ],
)
def test_the_minimum_strategy_closes_with_enough(seen, expected):
    assert expected == MinimumStrategy(min_nodes=2).decide(seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (view("a", "bcd"), Wait()),
        (view("ab", "cd"), Close()),
        (view("a", "b", lost={"c": "x"}), Wait()),
        (view("a", "b", offline="b", sampled=2, reserve="cd"), Ask(1)),
        (view("", "ab", offline="ab", sampled=2), Wait()),
        (view("a", "", lost={"b": "x"}), Fail("1 of 2 updates (b: x)")),
        (view("a", "bc", overdue=True), Fail("1 of 2 updates at the deadline")),
    ],
)
def test_over_selection_takes_the_first(seen, expected):
    assert expected == OverSelectStrategy(first=2).decide(seen)


def test_a_stale_update_weighs_less():
    polynomial = AsyncStrategy(buffer=2, max_staleness=3)

    assert [1.0, 0.5] == [polynomial.weight(0), polynomial.weight(3)]
    assert 1.0 == AsyncStrategy(buffer=2, staleness="constant").weight(9)
    assert [True, False] == [polynomial.uses(3), polynomial.uses(4)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"buffer": 0},
        {"buffer": 1, "staleness": "odd"},
        {"buffer": 1, "exponent": -1.0},
        {"buffer": 1, "retries": -1},
    ],
)
def test_a_wrong_asynchronous_strategy_is_refused(wrong):
    with pytest.raises(InvalidSettingsError):
        AsyncStrategy(**wrong)


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
    "strategy",
    [
        DefaultStrategy(retries=3, leave_out_rounds=2),
        MinimumStrategy(min_fraction=0.5, deadline_s=60, sampling=RandomSampling(num_nodes=2, seed=4)),
        OverSelectStrategy(first=2, sampling=WeightedSampling(fraction=0.5)),
        AsyncStrategy(buffer=2, max_staleness=5),
    ],
)
def test_a_strategy_survives_being_written_down(strategy):
    assert strategy == strategy_of(strategy_config(strategy))


@pytest.mark.parametrize("config", [{"name": "Unknown"}, {}, {"name": "DefaultStrategy", "patience": 1}])
def test_a_configuration_that_means_nothing_is_refused(config):
    with pytest.raises(InvalidSettingsError):
        strategy_of(config)
