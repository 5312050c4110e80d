"""What the researcher knows of the federation, and how short requests are answered."""

from __future__ import annotations

import threading

import pytest

from common.errors import ReplyTimeoutError, UnknownPartyError
from common.ids import derived_uuid
from common.messages import (
    NodeInfo,
    PlanApprovalRequest,
    PlanState,
    SearchRequest,
    TaskFailed,
)
from common.settings import Timeouts
from researcher.directory import NodeChange, NodeDirectory
from researcher.inbox import Inbox
from tests.support.fake_node import DEADLINE_S, INFO, Place, dataset

NODES = ("north", "south")


@pytest.fixture
def nodes():
    return NODES


@pytest.fixture
def place(trial, tmp_path):
    with Place(trial, tmp_path / "home") as place:
        yield place


# The directory, a pure record


@pytest.fixture
def directory():
    directory = NodeDirectory(5.0)
    directory.list(NODES, monotonic=0.0)
    return directory


def seen(directory, node, at, **facts):
    return directory.seen(node, now=1000.0 + at, monotonic=at, **facts)


def test_nothing_is_known_at_first(directory):
    assert [None, None] == [status.online for status in directory.nodes.values()]
    assert 5.0 == directory.deadline


def test_a_node_is_online_from_the_moment_it_speaks(directory):
    assert NodeChange("north", online=True, at=1001.0) == seen(directory, "north", 1.0, info=INFO)
    assert seen(directory, "north", 2.0) is None

    status = directory.nodes["north"]
    assert (True, 1001.0, 1002.0, INFO) == (status.online, status.since, status.last_seen, status.info)


def test_silence_means_offline(directory):
    seen(directory, "north", 1.0)

    assert [NodeChange("south", online=False, at=1005.5)] == directory.expire(now=1005.5, monotonic=5.5)
    assert [NodeChange("north", online=False, at=1006.0)] == directory.expire(now=1006.0, monotonic=6.0)
    assert directory.deadline is None


def test_a_goodbye_counts_at_once(directory):
    seen(directory, "north", 1.0)

    assert NodeChange("north", online=False, at=1002.0) == seen(directory, "north", 2.0, leaving=True)


def started(at):
    return INFO.model_copy(update={"started_at": 1000.0 + at})


def test_a_node_is_online_since_its_agent_started_not_since_it_was_first_heard(directory):
    seen(directory, "north", 1.0)
    assert directory.nodes["north"].since is None

    seen(directory, "north", 1.1, info=started(-500.0))

    assert 500.0 == directory.nodes["north"].since


def test_a_node_that_comes_back_is_online_since_its_return(directory):
    seen(directory, "north", 1.0, info=started(-500.0))
    directory.expire(now=1006.0, monotonic=6.0)
    assert 1001.0 == directory.nodes["north"].since

    seen(directory, "north", 9.0, info=started(-500.0))
    assert 1009.0 == directory.nodes["north"].since

    seen(directory, "north", 12.0, info=started(11.0))
    assert 1011.0 == directory.nodes["north"].since


def test_a_node_that_was_never_heard_of_is_offline_since_nobody_knows_when(directory):
    directory.expire(now=1005.5, monotonic=5.5)

    status = directory.nodes["south"]
    assert (False, None, None) == (status.online, status.since, status.last_seen)


def test_what_an_earlier_process_knew_is_remembered_but_not_believed_to_hold(directory):
    seen(directory, "north", 1.0, info=INFO)
    fresh = NodeDirectory(5.0)
    fresh.list(("north", "west"), monotonic=0.0)

    fresh.remember(directory.nodes)

    north = fresh.nodes["north"]
    assert (None, None, 1001.0, INFO) == (north.online, north.since, north.last_seen, north.info)
    assert {"north", "west"} == fresh.nodes.keys()


def test_our_own_absence_is_not_held_against_the_nodes(directory):
    seen(directory, "north", 1.0)
    directory.forgive(100.0)

    assert [] == directory.expire(now=1101.0, monotonic=101.0)
    assert 105.0 == directory.deadline


def test_strangers_are_not_listed(directory):
    assert seen(directory, "west", 1.0) is None
    assert set(NODES) == directory.nodes.keys()


# Over the broker


def test_nodes_tell_about_themselves(trial, place):
    trial.start("north")
    place.settle()

    statuses = place.nodes()

    assert {"north": True, "south": False} == {node: status.online for node, status in statuses.items()}
    assert INFO == statuses["north"].info


def test_a_search_finds_data_sets_by_all_their_tags(trial, place):
    trial.start(
        "north",
        datasets=(dataset("north", tags=("heart", "uci")), dataset("north", name="b", tags=("lung",))),
    )
    trial.start("south", datasets=(dataset("south", tags=("heart",)),))
    place.settle()

    assert {"north": 1, "south": 1} == {node: len(some) for node, some in place.search("heart").items()}
    assert ["north"] == list(place.search(["heart", "uci"]))
    assert {} == place.search("brain")
    assert {"north": 2, "south": 1} == {node: len(some) for node, some in place.list().items()}


def test_a_request_waits_for_no_node_that_is_offline(trial, place):
    trial.start("north")
    place.settle()

    assert ["north"] == list(place.search("heart"))
    assert [] == [one for one in trial.start("south").received if isinstance(one, SearchRequest)]


def test_a_node_that_goes_while_it_is_asked_is_not_waited_for(trial, place):
    trial.start("north")
    south = trial.start("south")
    place.settle()
    south._handle = lambda mail: None
    found = []
    thread = threading.Thread(target=lambda: found.append(place.search("heart")))
    thread.start()
    south.until(SearchRequest)
    south.say(leaving=True)
    thread.join(DEADLINE_S)

    assert ["north"] == list(found[0])


def test_a_node_that_does_not_answer_is_left_out_in_time(trial, tmp_path):
    trial.start("north")
    south = trial.start("south")
    south._handle = lambda mail: None
    with Place(trial, tmp_path / "home", timeouts=Timeouts(reply_s=0.2)) as place:
        place.wait_for("north", DEADLINE_S)

        assert ["north"] == list(place.search("heart"))


def test_a_stranger_cannot_be_asked(place):
    with pytest.raises(UnknownPartyError, match="nowhere"):
        place.search("heart", nodes=["nowhere"])


def test_waiting_for_nodes_ends_with_their_names(trial, place):
    trial.start("north")

    place.wait_for("north", DEADLINE_S)
    with pytest.raises(ReplyTimeoutError, match="south"):
        place.wait_for(NODES, 0.05)


def test_ping_makes_nodes_speak(trial, place):
    trial.start("north")
    place.settle()

    assert ["north"] == list(place.ping())


def test_an_approval_request_waits_for_nodes_that_are_offline(trial, place):
    trial.start("north", plan=PlanState.PENDING)
    place.settle()

    replies = place.request_approval("Plan", "a" * 64, "class Plan: ...", note="please")

    assert {"north": PlanState.PENDING} == {node: reply.state for node, reply in replies.items()}
    (asked,) = trial.start("south").until(PlanApprovalRequest)
    assert ("please", None) == (asked.note, asked.deadline)


def test_silence_over_the_broker_means_offline(trial, tmp_path):
    trial.start("north")
    with Place(trial, tmp_path / "home", timeouts=Timeouts(presence_s=0.3)) as place:
        place.wait_for("north", DEADLINE_S)

        assert place.hub.wait(lambda nodes: nodes["north"].online is False, DEADLINE_S)


def test_who_is_online_can_be_read_by_other_processes(trial, place, tmp_path):
    from researcher.opening import last_seen

    trial.start("north")
    place.settle()
    place.ping()  # answered by the thread that writes the file, after it did

    seen_by_others = last_seen(tmp_path / "home")
    assert {"north": True, "south": False} == {node: one.online for node, one in seen_by_others.items()}
    assert NodeInfo.model_validate(INFO) == seen_by_others["north"].info


def test_answers_to_an_experiment_that_is_resumed_later_are_kept(trial, place):
    node = trial.start("north")
    place.settle()
    experiment = derived_uuid("experiment")
    for number in range(3):
        node.mailbox.send(_failed(experiment, number)).result(DEADLINE_S)
    place.ping("north")
    inbox = Inbox()

    place.hub.attach(experiment, inbox)

    assert [0, 1, 2] == [inbox.get(timeout=DEADLINE_S).message.round for _ in range(3)]


def test_answers_to_nobody_do_not_stop_the_mail(trial, place):
    node = trial.start("north")
    place.settle()
    for number in range(100):
        node.mailbox.send(_failed(derived_uuid("gone"), number)).result(DEADLINE_S)

    assert ["north"] == list(place.search("heart"))


def _failed(experiment, number):
    return TaskFailed(
        sender="north",
        recipients=("lab",),
        experiment_id=experiment,
        run_id=derived_uuid("run"),
        task_id=derived_uuid("task", number),
        round=number,
        code="WRN-601",
        text="died",
        final=False,
    )
