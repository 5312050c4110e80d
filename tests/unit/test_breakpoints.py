"""What is kept of past rounds, and what can be made of it."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from common.errors import (
    ExperimentExistsError,
    InvalidSettingsError,
    NoNodesError,
    NoSuchRoundError,
    RoundNotKeptError,
)
from common.messages import TrainRequest
from researcher import Experiment, FedAverage
from researcher.cli import app
from researcher.monitoring import UpdateArrived
from researcher.retention import Retention
from tests.support.experiments import Death, crash, dying, make
from tests.support.fake_node import Place, Silence, Trial, always, at_rounds, shifted
from tests.support.holdings import digests_of, tensors_of


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path / "nodes")
    trial.start("north", always(shifted(0.3, samples_seen=3, samples_train=3)))
    trial.start("south", always(shifted(0.7, samples_seen=7, samples_train=7)))
    yield trial
    trial.close()


@pytest.fixture
def finished(federation):
    experiment = make(federation, round_limit=4, name="Heart")
    experiment.run()
    experiment.close()
    return experiment


def called(*arguments):
    result = CliRunner().invoke(app, [str(one) for one in (*arguments, "--json")])
    return result.exit_code, json.loads(result.stdout)


# Breakpoints


def test_a_past_round_is_loaded_with_its_model_and_history(finished, tmp_path):
    past = Experiment.load(finished.folder, round=2)

    past.export(tmp_path / "past")
    assert finished.history()[1].model == past.model
    assert [1, 2] == [record.round for record in past.history()]
    past.training_plan().export_model(tmp_path / "plan")
    for name, value in load_file(tmp_path / "past").items():
        assert (value == load_file(tmp_path / "plan")[name]).all()
    assert 4 == Experiment.load(finished.folder).round


def test_a_round_that_is_not_there_says_which_are(finished):
    with pytest.raises(NoSuchRoundError, match="no finished training round 9; it has finished 4"):
        Experiment.load(finished.folder, round=9)


def test_a_branch_is_another_experiment_from_that_model(finished, federation, trial):
    past = Experiment.load(finished.folder, round=2, federation=federation)

    with past.branch("what-if", name="What if") as branch:
        branch._observers.clear()
        assert (0, "What if") == (branch.round_current(), branch.name)
        assert finished.folder.parent / "what-if" == branch.folder
        assert finished.id != branch.id
        assert 1 == branch.run(1)
        assert past.model == branch.history()[0].base
        assert {"experiment": finished.id, "round": 2, "model": past.model} == dict(
            branch._dossier.row.parent
        )
    assert 4 == finished.round_current()
    assert branch.id == trial.nodes["north"].of(TrainRequest)[-1].experiment_id

    with pytest.raises(ExperimentExistsError):
        past.branch("what-if")


# Replay


def test_a_replayed_round_gives_the_recorded_model(federation):
    experiment = make(federation)
    experiment.run(3)

    for record in experiment.history():
        done = Experiment.load(experiment.folder, round=record.round).replay()
        assert done.same
        assert ("north", "south") == done.nodes


def test_a_replay_keeps_the_aggregator_that_was_set_then(federation):
    experiment = make(federation, aggregator=FedAverage(weights="dataset_size"))
    experiment.run(1)
    experiment.set_aggregator(FedAverage())

    assert Experiment.load(experiment.folder, round=1).replay().same


def test_a_replay_can_leave_a_node_out(finished, tmp_path):
    past = Experiment.load(finished.folder, round=1)

    done = past.replay(without=["south"], export=tmp_path / "without")

    assert (("north",), False) == (done.nodes, done.same)
    for name, value in tensors_of(finished.folder, finished.history()[0].base).items():
        assert abs(load_file(tmp_path / "without")[name] - value - 0.3).max() < 1e-6


def test_a_replay_without_anybody_or_without_a_stranger_is_refused(finished):
    past = Experiment.load(finished.folder, round=1)

    with pytest.raises(NoNodesError):
        past.replay(without=["north", "south"])
    with pytest.raises(InvalidSettingsError, match="nowhere: no update of it counts in round 1"):
        past.replay(without=["nowhere"])


# Retention


def test_without_a_retention_disk_use_grows_linearly(federation):
    experiment = make(federation)
    used = []
    for _ in range(4):
        experiment.run(1)
        used.append(len(digests_of(experiment.folder)))

    assert {3} == {after - before for before, after in itertools.pairwise(used)}


def test_a_retention_bounds_the_disk_and_says_what_it_took(federation):
    experiment = make(federation, retention={"updates": 1, "models": 2})
    used = []
    for _ in range(6):
        experiment.run(1)
        used.append(len(digests_of(experiment.folder)))

    assert used[2:] == [used[2]] * 4
    assert 1 == experiment.run(1)
    with pytest.raises(RoundNotKeptError, match="its model was removed"):
        Experiment.load(experiment.folder, round=2).training_plan()
    with pytest.raises(RoundNotKeptError, match="round 6"):
        Experiment.load(experiment.folder, round=6).replay()
    assert Experiment.load(experiment.folder, round=7).replay().same
    assert 7 == len(experiment.history())


def test_a_retention_can_be_changed_and_survives(federation):
    experiment = make(federation)
    experiment.run(3)

    experiment.set_retention({"updates": 0, "models": 1})
    experiment.run(1)

    assert 2 == len(digests_of(experiment.folder))  # the first and the last model
    resumed = Experiment.resume(experiment.folder, federation=federation, observers=())
    assert Retention(updates=0, models=1) == resumed.retention()
    resumed.close()


@pytest.mark.parametrize("wrong", [{"updates": -1}, {"models": 0}, {"rounds": 3}, {"updates": "all"}])
def test_a_wrong_retention_is_refused(wrong):
    with pytest.raises(InvalidSettingsError):
        Retention.of(wrong)


# Another machine


def test_a_copied_directory_is_resumed_elsewhere_inside_its_round(trial, tmp_path):
    trial.nodes["south"].script = at_rounds({2: Silence(then=shifted(0.7))}, otherwise=shifted(0.7))
    federation = Place(trial, tmp_path / "home")
    experiment = make(federation, round_limit=3)
    dying(experiment, UpdateArrived, 3)
    with pytest.raises(Death):
        experiment.run()
    experiment._dossier.close()
    crash(federation)
    trial.nodes["south"].until(TrainRequest, 2)
    trial.nodes["south"].release()

    there = tmp_path / "elsewhere" / "experiments" / "copied"
    shutil.copytree(experiment.folder, there)
    shutil.rmtree(experiment.folder)
    for path in there.rglob("*"):
        if path.is_file():
            assert str(tmp_path / "home").encode() not in path.read_bytes(), path
    with Place(trial, tmp_path / "elsewhere") as again:
        resumed = Experiment.resume(there, federation=again, observers=())
        assert 2 == resumed.run()
        assert [1, 2, 3] == [record.round for record in resumed.history()]
        assert 1 == len({record.run for record in resumed.history()[:2]})


# Commands


def test_the_commands_branch_export_and_replay(finished, tmp_path):
    code, made = called("branch", finished.folder, "other", "--round", 3)
    assert (0, finished.history()[2].model) == (code, made["model"])
    code, written = called("export", finished.folder, tmp_path / "model", "--round", 1)
    assert (0, finished.history()[0].model) == (code, written["sha256"])
    code, done = called("replay", finished.folder, "--round", 2)
    assert (0, True) == (code, done["same"])
    code, done = called("replay", finished.folder, "--round", 2, "--without", "north")
    assert (0, False, ["south"]) == (code, done["same"], done["nodes"])
