"""What a person in another terminal can learn and do while an experiment runs."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from common.errors import ExperimentCancelledError, NotRunningError
from common.messages import RunEnd, TrainRequest
from researcher import Experiment, MinimumStrategy
from researcher.cli import app
from researcher.control import cancel_running, is_running
from researcher.monitoring import UpdateArrived
from researcher.opening import last_seen
from researcher.round import RoundState
from researcher.standing import standing
from tests.support.experiments import Death, Recorder, crash, dying, in_thread, joined, make
from tests.support.fake_node import DEADLINE_S, Failure, Place, Silence, Trial, always


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path / "nodes", ("east", "north", "south"))
    trial.start("east")
    trial.start("north", always(Silence()))
    trial.start("south", always(Failure()))
    yield trial
    trial.close()


def waiting(trial, federation):
    """Begin a round that waits for north."""
    recorder = Recorder()
    strategy = MinimumStrategy(min_nodes=2, deadline_s=3600)
    experiment = make(
        federation, node_selection_strategy=strategy, observers=(recorder,), round_limit=5, name="Heart"
    )
    thread, errors = in_thread(experiment)
    recorder.until(UpdateArrived)
    trial.nodes["north"].until(TrainRequest)
    trial.nodes["south"].until(TrainRequest)
    return experiment, thread, errors


def until_settled(experiment, node):
    """Wait until the ledger knows what became of a node."""
    with experiment._dossier.reading() as ledger:
        assert ledger
    recorder = next(one for one in experiment._observers if isinstance(one, Recorder))
    from researcher.monitoring.events import TaskLost

    if not any(isinstance(event, TaskLost) and event.node == node for event in recorder.events):
        recorder.until(TaskLost)


def test_an_open_round_says_what_it_waits_for_while_it_runs(trial, federation):
    experiment, thread, _ = waiting(trial, federation)
    until_settled(experiment, "south")

    seen = standing(experiment.folder, federation.home, last_seen(federation.home.path))

    assert (True, 1, 0, 5) == (seen.running, seen.round, seen.finished, seen.round_limit)
    assert seen.opened_at + 3600 == pytest.approx(seen.deadline)
    assert ("east",) == seen.accepted
    assert "WRN-504" in seen.lost["south"]
    (awaited,) = seen.awaited
    assert ("north", 1, 1, True) == (awaited.node, awaited.round, awaited.attempt, awaited.online)
    assert abs(awaited.asked_at - seen.opened_at) < DEADLINE_S
    experiment.cancel()
    joined(thread)


def test_the_command_tells_whom_it_waits_for_and_that_the_node_left(trial, federation):
    experiment, thread, _ = waiting(trial, federation)
    until_settled(experiment, "south")
    trial.nodes["north"].say(leaving=True)
    assert federation.hub.wait(lambda known: known["north"].online is False, DEADLINE_S)

    shown = CliRunner().invoke(app, ["status", "--home", str(federation.home.path)], env={"COLUMNS": "200"})

    assert 0 == shown.exit_code
    assert "north" in shown.stdout
    assert "it is offline since" in shown.stdout
    experiment.cancel()
    joined(thread)
    document = json.loads(
        CliRunner()
        .invoke(app, ["status", str(experiment.folder), "--home", str(federation.home.path), "--json"])
        .stdout
    )
    assert [False, None, "round 1 cancelled: cancelled"] == [
        document["experiments"][0][name] for name in ("running", "round", "ended")
    ]


def test_another_process_cancels_a_run_and_waits_for_its_end(trial, federation):
    experiment, thread, errors = waiting(trial, federation)
    assert is_running(federation.home, experiment.id)

    assert cancel_running(federation.home, experiment.id)

    assert not is_running(federation.home, experiment.id)
    assert RoundState.CANCELLED is experiment.history()[0].state
    joined(thread)
    assert [ExperimentCancelledError] == [type(error) for error in errors]
    trial.nodes["north"].until(RunEnd)


def test_what_nobody_runs_cannot_be_cancelled_by_its_process(trial, federation):
    assert not cancel_running(federation.home, "nothing")


def test_a_run_that_a_process_left_behind_is_given_up_and_the_nodes_are_told(trial, tmp_path):
    federation = Place(trial, tmp_path / "home")
    experiment = make(federation, round_limit=2, node_selection_strategy=MinimumStrategy(min_nodes=2))
    dying(experiment, UpdateArrived)
    with pytest.raises(Death):
        experiment.run()
    experiment._dossier.close()
    crash(federation)

    with Place(trial, tmp_path / "home") as again:
        left = Experiment.resume(experiment.folder, federation=again, observers=())
        left.abandon()

        assert RoundState.CANCELLED is left.history()[0].state
        (ended,) = trial.nodes["north"].until(RunEnd)
        assert left.history()[0].run == ended.run_id
        with pytest.raises(NotRunningError):
            left.abandon()
        left.close()
