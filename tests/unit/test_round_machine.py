"""What one round promises, whatever happens in it."""

from __future__ import annotations

import pytest

from common.ids import PartyId, RunId, derived_uuid, task_id
from researcher.round import (
    CancelAsked,
    CancelTask,
    CloseRound,
    DeadlinePassed,
    FailRound,
    NodeOffline,
    NodeOnline,
    RoundMachine,
    RoundState,
    SendTask,
    TaskFailed,
    UpdateAccepted,
    UpdateRefused,
)
from researcher.strategies import DefaultStrategy, MinimumStrategy

RUN = RunId(derived_uuid("run"))
NODES = ("east", "north", "south")
OPENED = 100.0


def task(node, attempt=1):
    return task_id(RUN, 1, PartyId(node), attempt)


def machine(strategy=None, nodes=NODES):
    made = RoundMachine(
        1, RUN, [PartyId(node) for node in nodes], strategy or DefaultStrategy(), opened_at=OPENED
    )
    made.start()
    return made


def test_each_node_is_asked_once_in_node_order():
    made = RoundMachine(1, RUN, ["south", "east", "north"], DefaultStrategy(), opened_at=OPENED)

    assert [SendTask(node, task(node), 1) for node in NODES] == made.start()


def test_a_round_closes_with_the_last_answer_and_lists_updates_in_node_order():
    made = machine()

    assert [] == made.handle(UpdateAccepted(task("south"), 1))
    assert [] == made.handle(UpdateAccepted(task("north"), 2))
    assert [CloseRound((task("east"), task("north"), task("south")))] == made.handle(
        UpdateAccepted(task("east"), 3)
    )
    assert RoundState.CLOSED is made.state


def test_an_update_counts_once():
    made = machine(nodes=("east", "north"))
    made.handle(UpdateAccepted(task("east"), 1))

    assert not made.admits(task("east"))
    assert [] == made.handle(UpdateAccepted(task("east"), 2))
    assert (task("east"),) == made.accepted


def test_an_unknown_task_changes_nothing():
    made = machine()

    assert not made.admits(task("west"))
    assert [] == made.handle(UpdateAccepted(task("west"), 1))
    assert set(NODES) == made.waiting.keys()


def test_a_failure_that_is_not_final_is_tried_again_as_another_task():
    made = machine(DefaultStrategy(retries=1))

    effects = made.handle(TaskFailed(task("north"), "died", final=False, at=1))

    assert [SendTask("north", task("north", 2), 2)] == effects
    assert not made.admits(task("north"))
    assert made.admits(task("north", 2))


def test_retries_end():
    made = machine(DefaultStrategy(retries=1))
    made.handle(TaskFailed(task("north"), "died", final=False, at=1))

    effects = made.handle(TaskFailed(task("north", 2), "died again", final=False, at=2))

    assert FailRound("north: died again") == effects[-1]


def test_a_final_failure_fails_the_round_of_the_default_strategy_and_cancels_the_others():
    made = machine()
    made.handle(UpdateAccepted(task("east"), 1))

    effects = made.handle(TaskFailed(task("north"), "WRN-504: ValueError", final=True, at=2))

    assert [CancelTask("south", task("south")), FailRound("north: WRN-504: ValueError")] == effects
    assert RoundState.FAILED is made.state


def test_a_refused_update_loses_its_node():
    made = machine(MinimumStrategy(min_nodes=2))
    made.handle(UpdateRefused(task("east"), "not finite", 1))
    made.handle(UpdateAccepted(task("north"), 2))

    assert [CloseRound((task("north"), task("south")))] == made.handle(UpdateAccepted(task("south"), 3))


def test_nothing_happens_after_the_end():
    made = machine(nodes=("east",))
    made.handle(UpdateAccepted(task("east"), 1))

    for event in (CancelAsked(2), DeadlinePassed(1e9), TaskFailed(task("east"), "late", final=True, at=3)):
        assert [] == made.handle(event)
    assert RoundState.CLOSED is made.state


def test_cancelling_tells_the_nodes_that_are_still_out():
    made = machine()
    made.handle(UpdateAccepted(task("east"), 1))

    effects = made.handle(CancelAsked(2))

    assert [
        CancelTask("north", task("north")),
        CancelTask("south", task("south")),
        FailRound("cancelled", cancelled=True),
    ] == effects
    assert RoundState.CANCELLED is made.state


def test_a_deadline_that_has_not_passed_changes_nothing():
    made = machine(MinimumStrategy(min_nodes=1, deadline_s=10))
    made.handle(UpdateAccepted(task("east"), 101))

    assert [] == made.handle(DeadlinePassed(109.9))
    assert [
        CancelTask("north", task("north")),
        CancelTask("south", task("south")),
        CloseRound((task("east"),)),
    ] == made.handle(DeadlinePassed(110.0))


def test_the_deadline_without_the_minimum_fails_the_round():
    made = machine(MinimumStrategy(min_nodes=2, deadline_s=10))
    made.handle(UpdateAccepted(task("east"), 101))

    assert FailRound("1 of 2 updates at the deadline") == made.handle(DeadlinePassed(110.0))[-1]


def test_a_deadline_can_be_moved_later_but_not_earlier():
    made = machine(MinimumStrategy(min_nodes=1, deadline_s=10))

    made.grant(200)
    made.grant(150)

    assert 200 == made.deadline


def test_with_the_minimum_nodes_that_are_offline_are_not_waited_for():
    made = machine(MinimumStrategy(min_nodes=2))
    made.handle(NodeOffline("south", 1))
    made.handle(UpdateAccepted(task("east"), 2))

    assert [CancelTask("south", task("south")), CloseRound((task("east"), task("north")))] == made.handle(
        UpdateAccepted(task("north"), 3)
    )


def test_a_node_that_returns_is_waited_for_again():
    made = machine(MinimumStrategy(min_nodes=2))
    made.handle(NodeOffline("south", 1))
    made.handle(NodeOnline("south", 2))
    made.handle(UpdateAccepted(task("east"), 3))

    assert [] == made.handle(UpdateAccepted(task("north"), 4))
    assert RoundState.OPEN is made.state


def test_the_default_strategy_waits_for_nodes_that_are_offline():
    made = machine()
    for node in NODES:
        made.handle(NodeOffline(node, 1))

    assert RoundState.OPEN is made.state


@pytest.mark.parametrize("strategy", [DefaultStrategy(), MinimumStrategy(min_fraction=0.5)])
def test_the_same_events_lead_to_the_same_end(strategy):
    events = [
        TaskFailed(task("north"), "died", final=False, at=1),
        UpdateAccepted(task("south"), 2),
        UpdateAccepted(task("north", 2), 3),
        UpdateAccepted(task("east"), 4),
    ]
    first, second = machine(strategy), machine(strategy)

    assert [first.handle(event) for event in events] == [second.handle(event) for event in events]
