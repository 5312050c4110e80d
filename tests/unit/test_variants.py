"""Sweeps and cross-validations are experiments of their own, and what is finished is not run again."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from common.errors import InvalidArgumentsError, InvalidSettingsError
from common.messages import TrainRequest
from researcher.cli import app
from researcher.monitoring import RoundEnded
from researcher.trials import grid_of, parsed_grid
from tests.support.experiments import ARGS, Death, crash, dying, make
from tests.support.fake_node import Failure, Place, Trial, Update, always, shifted
from tests.unit.test_researcher_cli import FILE, PLAN


@pytest.fixture
def nodes():
    return ("north",)


def by_rate(request, assignment):
    """Answer with a loss that is best at a learning rate of 0.1."""
    rate = request.training_args.optimizer_args.get("lr", 0)
    return Update(loss=(rate - 0.1) ** 2, metrics={"loss": (rate - 0.1) ** 2})


GRID = {"optimizer_args.lr": [0.01, 0.1, 1.0], "num_updates": [1, 2]}


def test_a_sweep_runs_every_combination_as_an_experiment_of_its_own(trial, federation):
    trial.start("north", by_rate)
    experiment = make(federation, round_limit=2, name="Heart!")
    trials = experiment.sweep(GRID)

    assert [(0.01, 1), (0.01, 2), (0.1, 1), (0.1, 2), (1.0, 1), (1.0, 2)] == [
        tuple(one.point.values()) for one in trials.trials
    ]
    assert {2} == {one.rounds for one in trials.trials}
    assert {"optimizer_args.lr": 0.1, "num_updates": 1} == trials.best("loss", "train").point
    there = {path.name for path in federation.home.experiments.iterdir()}
    assert 6 == len(there)
    assert there == {one.folder for one in trials.trials}
    assert "optimizer_args.lr" in str(trials)
    assert experiment.folder is None


def test_a_sweep_that_was_interrupted_goes_on_where_it_was(trial, tmp_path):
    node = trial.start("north", by_rate)
    federation = Place(trial, tmp_path / "home")
    experiment = make(federation, round_limit=2, training_args={"num_updates": 1})
    dying(experiment, RoundEnded, 3)
    with pytest.raises(Death):
        experiment.sweep({"optimizer_args.lr": [0.01, 0.1, 1.0]})
    crash(federation)

    with Place(trial, tmp_path / "home") as again:
        fresh = make(again, round_limit=2, training_args={"num_updates": 1})
        trials = fresh.sweep({"optimizer_args.lr": [0.01, 0.1, 1.0]})
        assert [2, 2, 2] == [one.rounds for one in trials.trials]
        asked = len(node.of(TrainRequest))
        assert trials == fresh.sweep({"optimizer_args.lr": [0.01, 0.1, 1.0]})

    assert 6 == asked == len(node.of(TrainRequest))
    assert {0} == {request.training_args.random_seed for request in node.of(TrainRequest)}


def test_a_variant_that_fails_is_noted_and_tried_again_by_the_next_call(trial, federation):
    def script(request, assignment):
        return Failure() if request.training_args.optimizer_args["lr"] > 0.5 else Update()

    node = trial.start("north", script)
    experiment = make(federation, round_limit=1)
    first = experiment.sweep({"optimizer_args.lr": [0.1, 1.0]})
    node.script = always(Update())
    second = experiment.sweep({"optimizer_args.lr": [0.1, 1.0]})

    assert (None, True) == (first.trials[0].error, "WRN-504" in first.trials[1].error)
    assert [None, None] == [one.error for one in second.trials]


def test_nothing_runs_if_one_combination_is_wrong(trial, federation):
    node = trial.start("north")

    with pytest.raises(InvalidArgumentsError):
        make(federation, round_limit=1).sweep({"num_updates": [1, -1]})
    with pytest.raises(InvalidSettingsError, match="round_limit"):
        make(federation).sweep({"num_updates": [1]})
    assert [] == node.of(TrainRequest)


def test_a_draw_repeats_itself_and_takes_no_combination_twice():
    grid = {"a": list(range(10)), "b": list(range(10))}

    first, second = (grid_of(grid, draws=30, seed=4) for _ in range(2))
    assert first == second != grid_of(grid, draws=30, seed=5)
    assert 30 == len({tuple(one.items()) for one in first})
    assert sorted(map(str, grid_of(grid))) == sorted(map(str, grid_of(grid, draws=1000)))


@pytest.mark.parametrize("grid", [{}, {"a": []}, {"a": list(range(101)), "b": list(range(100))}])
def test_nothing_or_far_too_much_is_refused(grid):
    with pytest.raises(InvalidSettingsError):
        grid_of(grid)


def test_a_grid_is_written_on_the_command_line():
    texts = ["optimizer_args.lr=0.1,1e-3", "test_metric=ACCURACY,ROC_AUC", "dry_run=true"]

    assert {
        "optimizer_args.lr": [0.1, 0.001],
        "test_metric": ["ACCURACY", "ROC_AUC"],
        "dry_run": [True],
    } == parsed_grid(texts)
    assert {"optimizer_args.lr": [0.1, "cosine", True]} == parsed_grid(["optimizer_args.lr=0.1,cosine,true"])
    with pytest.raises(InvalidSettingsError, match="NAME=VALUE"):
        parsed_grid(["lr"])


def called(*arguments):
    result = CliRunner().invoke(app, [str(one) for one in (*arguments, "--json")])
    return result.exit_code, json.loads(result.stdout)


def test_the_commands_sweep_and_cross_validate(trial, federation, tmp_path, monkeypatch):
    trial.start("north", by_rate)
    federation.settle()
    monkeypatch.setattr("researcher.cli._federation", lambda home: contextlib.nullcontext(federation))
    (tmp_path / "plan.py").write_text(PLAN)
    (tmp_path / "heart.toml").write_text(FILE)

    code, swept = called("sweep", tmp_path / "heart.toml", "--vary", "optimizer_args.lr=0.1,0.5")
    assert (0, [0.1, 0.5]) == (code, [row["optimizer_args.lr"] for row in swept["trials"]])
    code, crossed = called("cross-validate", tmp_path / "heart.toml", "--folds", 3)
    assert (0, [0, 1, 2]) == (code, [row["test_fold"] for row in crossed["trials"]])
    assert {3} == {row["variants"] for row in crossed["summary"]}


def test_a_sweep_of_which_a_part_failed_says_so_by_its_exit_code(trial, federation, tmp_path, monkeypatch):
    trial.start(
        "north", lambda request, one: Failure() if request.training_args.num_updates == 7 else Update()
    )
    federation.settle()
    monkeypatch.setattr("researcher.cli._federation", lambda home: contextlib.nullcontext(federation))
    (tmp_path / "plan.py").write_text(PLAN)
    (tmp_path / "heart.toml").write_text(FILE)

    code, swept = called("sweep", tmp_path / "heart.toml", "--vary", "num_updates=1,7")

    assert (1, [False, True]) == (code, [bool(row["error"]) for row in swept["trials"]])


def test_a_cross_validation_holds_back_each_part_once_with_one_seed(trial, federation):
    def script(request, assignment):
        return Update(metrics={"loss": float(request.training_args.test_fold)})

    node = trial.start("north", script)
    trials = make(federation, round_limit=1, training_args=ARGS | {"test_ratio": 0.3}).cross_validate(4)

    asked = [
        (one.training_args.fold, one.training_args.random_seed) for one in node.of(TrainRequest) if one.train
    ]
    assert [((fold, 4), 7) for fold in range(4)] == asked
    expected = (1.5, pytest.approx(np.std(range(4), ddof=1)), 4)
    assert expected == trials.summary()["loss", "global"]


def test_one_part_is_no_cross_validation(federation):
    with pytest.raises(InvalidArgumentsError, match="test_folds"):
        make(federation, round_limit=1).cross_validate(1)


# Beside each other


def test_a_comparison_shows_settings_that_differ_and_metrics_of_both(trial, federation):
    trial.start("north", by_rate)
    first = make(federation, name="slow", training_args=ARGS | {"optimizer_args": {"lr": 0.1}})
    second = make(
        federation, name="fast", training_args=ARGS | {"optimizer_args": {"lr": 0.5}}, round_limit=2
    )
    first.run(1)
    second.run(1)
    found = first.compare(second)

    assert {("training_args.optimizer_args.lr", 0.1, 0.5), ("round_limit", None, 2)} == {
        (one.setting, one.first, one.second) for one in found.settings
    }
    (loss,) = found.metrics
    assert ("loss", "train", 0.0, pytest.approx(0.16)) == (
        loss.metric,
        loss.on,
        loss.first_pooled,
        loss.second_pooled,
    )
    assert "slow pooled" in str(found)


# Drift


def test_drift_is_the_norm_of_a_change_and_its_cosine_to_the_mean_change(tmp_path):
    trial = Trial(tmp_path / "nodes", ("east", "north", "south"))
    changes = {"east": 1.0, "north": 2.0, "south": -1.0}
    for node, by in changes.items():
        trial.start(node, always(shifted(by)))
    with Place(trial, tmp_path / "home") as federation:
        experiment = make(federation)
        experiment.run(2)
        drift = experiment.drift()
        picture = experiment.plot_drift("cosine")
    trial.close()

    # a linear model of three inputs has four parameters
    expected = [(round_, node, abs(by) * 2, np.sign(by)) for round_ in (1, 2) for node, by in changes.items()]
    assert [
        (round_, node, pytest.approx(norm, rel=1e-6), pytest.approx(cosine))
        for round_, node, norm, cosine in expected
    ] == [(one.round, one.node, one.norm, one.cosine) for one in drift]
    assert "Cosine to the mean change" in picture.svg


def test_drift_leaves_out_rounds_that_are_not_kept(trial, federation):
    trial.start("north")
    experiment = make(federation, retention={"updates": 1, "models": 1})
    experiment.run(3)

    assert [3] == [one.round for one in experiment.drift()]
