"""How rounds go on when nodes are sampled, slow, lost, silent or away; against scripted nodes over the in-memory broker."""

from __future__ import annotations

import pytest

from common.messages import TaskCancel, TrainRequest
from common.settings import Timeouts
from researcher import Experiment, MinimumStrategy
from researcher.monitoring import NodeChanged, RoundOpened, UpdateArrived
from researcher.strategies import DefaultStrategy, OverSelectStrategy, RandomSampling, RoundRobinSampling
from tests.support.experiments import Death, Recorder, crash, dying, in_thread, joined, make
from tests.support.fake_node import (
    DEADLINE_S,
    Failure,
    Place,
    Silence,
    Update,
    always,
    at_rounds,
    numbered,
    shifted,
)

NAMES = ("east", "north", "south", "west")


@pytest.fixture
def nodes():
    return NAMES


def outcomes(experiment, position=-1):
    return {node: one.outcome for node, one in experiment.history()[position].nodes.items()}


def test_only_the_sampled_nodes_are_asked(trial, federation):
    for name in NAMES:
        trial.start(name)
    strategy = DefaultStrategy(sampling=RoundRobinSampling(num_nodes=2))
    experiment = make(federation, node_selection_strategy=strategy)

    experiment.run(2)

    assert [{"east", "north"}, {"south", "west"}] == [set(one.nodes) for one in experiment.history()]


def test_over_selection_closes_with_the_first_and_cancels_the_others(trial, federation):
    for name in ("east", "west"):
        trial.start(name)
    slow = [trial.start(name, always(Silence())) for name in ("north", "south")]
    experiment = make(federation, node_selection_strategy=OverSelectStrategy(first=2))

    assert 1 == experiment.run(1)

    for node in slow:
        node.until(TaskCancel)
    expected = {"east": "accepted", "north": "cancelled", "south": "cancelled", "west": "accepted"}
    assert expected == outcomes(experiment)


def test_a_refusing_node_is_replaced_by_one_that_was_not_sampled(trial, federation):
    for name in NAMES:
        trial.start(name, always(Failure()) if name == "north" else None)
    strategy = DefaultStrategy(sampling=RoundRobinSampling(num_nodes=2))
    experiment = make(federation, node_selection_strategy=strategy)

    assert 1 == experiment.run(1)

    assert {"east": "accepted", "north": "failed", "south": "accepted"} == outcomes(experiment)
    assert ("south", "west") == experiment.history()[0].reserve


def test_a_node_that_leaves_is_replaced_when_the_strategy_does_not_wait(trial, federation):
    for name in NAMES:
        trial.start(name, always(Silence()) if name == "north" else None)
    strategy = MinimumStrategy(min_nodes=2, sampling=RoundRobinSampling(num_nodes=2))
    recorder = Recorder()
    experiment = make(federation, node_selection_strategy=strategy, observers=(recorder,))
    thread, errors = in_thread(experiment, 1)
    recorder.until(UpdateArrived)
    trial.nodes["north"].until(TrainRequest)

    trial.nodes["north"].say(leaving=True)
    joined(thread)

    assert [] == errors
    assert {"east": "accepted", "north": "cancelled", "south": "accepted"} == outcomes(experiment)


def test_a_lost_node_is_left_out_for_some_rounds(trial, federation):
    for name in NAMES:
        trial.start(name, at_rounds({1: Failure()}) if name == "north" else None)
    experiment = make(federation, node_selection_strategy=MinimumStrategy(min_nodes=1, leave_out_rounds=2))

    experiment.run(4)

    with_north = ["north" in record.nodes for record in experiment.history()]
    assert [True, False, False, True] == with_north


def test_a_node_is_left_out_by_a_resumed_experiment_too(trial, tmp_path):
    for name in NAMES:
        trial.start(name, at_rounds({1: Failure()}) if name == "north" else None)
    federation = Place(trial, tmp_path / "home")
    strategy = MinimumStrategy(min_nodes=1, leave_out_rounds=2)
    experiment = make(federation, node_selection_strategy=strategy, round_limit=4)
    dying(experiment, RoundOpened, 2)
    with pytest.raises(Death):
        experiment.run()
    experiment._dossier.close()
    crash(federation)

    with Place(trial, tmp_path / "home") as again:
        resumed = Experiment.resume(experiment.folder, federation=again, observers=())
        resumed.run()

        assert [True, False, False, True] == ["north" in record.nodes for record in resumed.history()]


def test_a_resumed_round_keeps_its_replacement(trial, tmp_path):
    for name in NAMES:
        trial.start(name, always(Failure()) if name == "north" else None)
    trial.nodes["south"].script = numbered(Silence())
    federation = Place(trial, tmp_path / "home")
    strategy = DefaultStrategy(sampling=RoundRobinSampling(num_nodes=2))
    experiment = make(federation, node_selection_strategy=strategy, round_limit=1)
    thread, errors = in_thread(experiment)
    trial.nodes["south"].until(TrainRequest)
    dying(experiment, NodeChanged)
    trial.nodes["west"].say(leaving=True)
    joined(thread)
    assert [Death] == [type(error) for error in errors]
    experiment._dossier.close()
    crash(federation)

    with Place(trial, tmp_path / "home") as again:
        trial.nodes["south"].release()
        resumed = Experiment.resume(experiment.folder, federation=again, observers=())
        assert 1 == resumed.run()
        assert {"east": "accepted", "north": "failed", "south": "accepted"} == outcomes(resumed)


def test_a_node_that_hangs_is_noticed_and_asked_again(trial, tmp_path):
    trial.start("north", numbered(Silence(), Update()))
    with Place(trial, tmp_path / "home", timeouts=Timeouts(progress_s=0.3)) as federation:
        experiment = make(federation)

        assert 1 == experiment.run(1)

        assert 2 == experiment.history()[0].nodes["north"].attempt
    (cancelled,) = trial.nodes["north"].until(TaskCancel)
    assert trial.nodes["north"].of(TrainRequest)[0].assignments[0].task_id in cancelled.tasks


def test_a_node_that_goes_on_hanging_is_lost_with_the_reason(trial, tmp_path):
    trial.start("north", always(Silence()))
    trial.start("south")
    with Place(trial, tmp_path / "home", timeouts=Timeouts(progress_s=0.2)) as federation:
        experiment = make(federation, node_selection_strategy=MinimumStrategy(min_nodes=1))

        assert 1 == experiment.run(1)

        north = experiment.history()[0].nodes["north"]
        assert ("failed", "WRN-712") == (north.outcome, north.code)


def test_the_deadline_waits_for_an_update_that_is_arriving(trial, tmp_path):
    trial.start("north")
    trial.start("south", always(shifted(2.0, chunk_bytes=1024, lose=frozenset(range(1, 99)))))
    strategy = MinimumStrategy(min_nodes=2, deadline_s=0.5)
    with Place(trial, tmp_path / "home", timeouts=Timeouts(reply_s=1.0)) as federation:
        experiment = make(federation, node_selection_strategy=strategy, model_args={"inputs": 1000})

        assert 1 == experiment.run(1)  # the lost chunks are asked for after the deadline

        assert {"north": "accepted", "south": "accepted"} == outcomes(experiment)
        record = experiment.history()[0]
        assert record.duration_s > strategy.deadline_s
        assert record.deadline > record.opened_at + strategy.deadline_s


def test_a_killed_node_is_known_in_time_and_a_returning_one_at_once(trial, tmp_path):
    timeouts = Timeouts(presence_s=0.5)
    with Place(trial, tmp_path / "home", timeouts=timeouts) as federation:
        north = trial.start("north")
        federation.wait_for("north", DEADLINE_S)
        said = federation.hub.statuses()["north"].last_seen

        assert federation.hub.wait(lambda known: known["north"].online is False, DEADLINE_S)
        assert federation.clock.now() - said < 5.0
        assert not federation.hub.wait(lambda known: bool(known["north"].online), 0.0)
        north.say()
        assert federation.hub.wait(lambda known: bool(known["north"].online), DEADLINE_S)


def test_two_experiments_share_the_federation_and_keep_apart(trial, federation):
    north = trial.start("north", always(shifted(1.0)))
    trial.start("south", always(shifted(1.0)))
    first, second = (make(federation, name=name, round_limit=3) for name in ("first", "second"))
    threads = [in_thread(one) for one in (first, second)]
    for thread, _ in threads:
        joined(thread)

    assert [[], []] == [errors for _, errors in threads]
    assert 6 == len(north.of(TrainRequest))
    for one in (first, second):
        assert [{"north": "accepted", "south": "accepted"}] * 3 == [outcomes(one, i) for i in range(3)]
    assert [record.model for record in first.history()] == [record.model for record in second.history()]
    assert first.folder != second.folder


def test_random_samples_are_those_of_the_seed(trial, federation):
    for name in NAMES:
        trial.start(name)
    sampling = RandomSampling(num_nodes=2, seed=11)
    experiment = make(federation, node_selection_strategy=DefaultStrategy(sampling=sampling))

    experiment.run(3)

    sizes = dict.fromkeys(NAMES, 100)
    expected = [set(sampling.sample(sizes, round_i).nodes) for round_i in (1, 2, 3)]
    assert expected == [set(record.nodes) for record in experiment.history()]
