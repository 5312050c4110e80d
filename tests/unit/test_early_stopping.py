"""An experiment stops when a metric has not become better for a while, and says so, also after a crash."""

from __future__ import annotations

import math

import pytest

from common.errors import InvalidSettingsError
from common.messages import RunEnd, TrainRequest
from common.training_args import TrainingArgs
from researcher import AsyncStrategy, EarlyStopping, Experiment
from researcher.catalogue import experiments_of
from researcher.experiment_file import load_experiment
from researcher.monitoring import RoundEnded, RoundOpened, StoppedEarly
from tests.support.experiments import ARGS, Death, Recorder, crash, dying, make
from tests.support.fake_node import Place, Update
from tests.support.records import record
from tests.unit.test_researcher_cli import FILE, PLAN

VALIDATING = ARGS | {"test_on_global_updates": True, "test_ratio": 0.05}


@pytest.fixture
def nodes():
    return ("north",)


def told(*values, metric="loss"):
    """Answer each round with the next value of a metric, the last one again and again."""

    def script(request, assignment):
        value = values[min(request.round, len(values)) - 1]
        return Update(metrics={metric: value}, loss=value)

    return script


def rounds(experiment):
    return [(record.round, record.kind) for record in experiment.history()]


def test_it_stops_after_so_many_rounds_without_a_better_value_and_validates_the_last_model(trial, federation):
    trial.start("north", told(0.9, 0.5, 0.6, 0.5, 0.7))
    watcher = Recorder()
    experiment = make(
        federation,
        round_limit=20,
        training_args=VALIDATING,
        early_stopping={"patience": 2},
        observers=(watcher,),
    )

    assert 4 == experiment.run()
    assert [*((number, "train") for number in range(1, 5)), (5, "validate")] == rounds(experiment)
    reason = (
        "stopped early: the pooled loss (global) has not become better for 2 rounds; "
        "the best was 0.5, with the model of round 1"
    )
    assert (reason, reason, None) == (
        experiment.stopped(),
        experiment.history()[3].reason,
        experiment.history()[2].reason,
    )
    assert [StoppedEarly(4, reason)] == [one for one in watcher.events if isinstance(one, StoppedEarly)]
    assert "stopped early" in experiment.info()["stopped"]
    assert ["finished"] == [one["state"] for one in experiments_of(federation.home.experiments)]
    trial.nodes["north"].until(RunEnd)


def test_what_was_stopped_stays_so_until_its_settings_change(trial, federation):
    trial.start("north", told(0.5))
    experiment = make(federation, round_limit=6, early_stopping={"patience": 1, "on": "train"})

    assert [2, 0] == [experiment.run(), experiment.run()]
    experiment.set_early_stopping({"patience": 3, "on": "train"})
    assert 2 == experiment.run()
    experiment.set_early_stopping(None)
    assert 2 == experiment.run()
    assert experiment.stopped() is None


@pytest.mark.parametrize(("moment", "count"), [(RoundOpened, 3), (RoundEnded, 3), (StoppedEarly, 1)])
def test_it_stops_in_the_same_round_whenever_the_process_dies(trial, tmp_path, moment, count):
    trial.start("north", told(0.5))
    federation = Place(trial, tmp_path / "home")
    experiment = make(
        federation, round_limit=9, training_args=VALIDATING, early_stopping=EarlyStopping(patience=2)
    )
    dying(experiment, moment, count)
    with pytest.raises(Death):
        experiment.run()
    experiment._dossier.close()
    crash(federation)

    with Place(trial, tmp_path / "home") as again:
        resumed = Experiment.resume(experiment.folder, federation=again, observers=())
        resumed.run()

        assert [(1, "train"), (2, "train"), (3, "train"), (4, "validate")] == rounds(resumed)
        assert "stopped early" in resumed.history()[2].reason
        assert 0 == resumed.run()


def test_an_asynchronous_run_stops_too(trial, federation):
    trial.start("north", told(0.5))
    experiment = make(
        federation,
        round_limit=9,
        node_selection_strategy=AsyncStrategy(buffer=1),
        early_stopping={"patience": 2, "on": "train"},
    )

    assert 3 == experiment.run()


def test_a_file_says_when_to_stop(trial, federation, tmp_path):
    trial.start("north", told(0.5))
    federation.settle()
    (tmp_path / "plan.py").write_text(PLAN)
    text = FILE.replace("rounds = 2", "rounds = 7")
    (tmp_path / "heart.toml").write_text(text + '[early_stopping]\npatience = 1\non = "train"\n')

    with load_experiment(tmp_path / "heart.toml", federation, ()) as experiment:
        assert 2 == experiment.run()
    assert 2 == len(trial.nodes["north"].of(TrainRequest))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"patience": 0}, "patience"),
        ({"metric": "dice"}, "say whether min or max of 'dice' is better"),
        ({"on": "local"}, "set test_on_local_updates"),
        ({"wait": 3}, "wait"),
        ({"min_delta": math.inf}, "min_delta"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(given, problem):
    with pytest.raises(InvalidSettingsError, match=problem):
        EarlyStopping.of(given, TrainingArgs(epochs=1, test_on_global_updates=True))


def fed(rule, values):
    """Return after how many of these values it stops, and the best."""
    watch = rule.watch([])
    for number, value in enumerate(values, start=1):
        watch = watch.after(record(number, {"north": {rule.metric: value}}))
        if watch.reason:
            return number, watch.best
    return None, watch.best


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (EarlyStopping(patience=2), [1, 0.9, 0.8, 0.7], (None, 0.7)),
        (EarlyStopping(patience=2), [1, 1, 1], (3, 1)),
        (EarlyStopping(patience=2, min_delta=0.25), [1, 0.9, 0.8, 0.7], (3, 1)),
        (EarlyStopping(patience=2, min_delta=0.25), [1, 0.9, 0.7, 0.6], (None, 0.7)),
        (EarlyStopping("ACCURACY", patience=1), [0.5, 0.6, 0.6], (3, 0.6)),
        (EarlyStopping("dice", patience=1, mode="max"), [0.5, 0.6, 0.5], (3, 0.6)),
        (EarlyStopping(patience=2), [None, None], (2, None)),
        (EarlyStopping(patience=2), [None, 1.0, None, None], (4, 1.0)),
    ],
)
def test_only_more_than_the_least_gain_counts_as_better(rule, values, expected):
    assert expected == fed(rule, values)
