"""Columns are standardised and filled with moments of the whole federation, taken before the first round."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.numpy import load_file

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import (
    InvalidArgumentsError,
    MissingValuesError,
    NonNumericColumnError,
    PlanContractError,
    RoundFailedError,
    UnknownMomentsError,
)
from common.messages import ColumnMoments, TrainRequest, by_name
from common.pooling import pooled_moments
from common.training_args import TrainingArgs
from common.training_plans import TorchTrainingPlan
from node.worker.session import Session
from researcher import Experiment, MinimumStrategy
from researcher.monitoring import RoundEnded, RoundOpened
from tests.support.experiments import Death, crash, dying, make
from tests.support.fake_node import Failure, Place, Update, always, at_rounds
from tests.support.tasks import Desk
from tests.support.working_node import start_working

ARGS = {"epochs": 1, "random_seed": 3, "test_ratio": 0.25, "moments": "federation"}
TABLES = {
    "north": {"age": [30.0, 40.0, None, 60.0, 50.0, 41.0, 39.0, 70.0], "y": [0, 1, 0, 1, 0, 1, 0, 1]},
    "south": {"age": [80.0, None, 90.0, 85.0, 81.0, 87.0, 93.0, 77.0], "y": [0, 1, 0, 1, 0, 1, 0, 1]},
}


class AgePlan(TorchTrainingPlan):
    """Learn from a column with gaps."""

    def init_model(self, model_args):
        return torch.nn.Linear(1, 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data).squeeze(1), target.float())

    def training_data(self):
        return DataManager(
            TabularDataset("age", "y", missing={"age": "mean"}, standardize=True), batch_size=4
        )


@pytest.fixture
def working(trial, tmp_path):
    for node, columns in TABLES.items():
        path = tmp_path / f"{node}.csv"
        pl.DataFrame(columns).write_csv(path)
        start_working(trial, node, path)
    return trial


def experiment(federation, **changes):
    return make(
        federation,
        **{"training_plan_class": AgePlan, "training_args": ARGS, "model_args": {}, "round_limit": 2}
        | changes,
    )


def model_of(experiment, folder):
    experiment.training_plan().export_model(folder / "exported")
    return {name: value.tolist() for name, value in load_file(folder / "exported").items()}


def moments_of(name, values):
    found = np.array(values, np.float64)
    mean = float(found.mean()) if len(found) else 0.0
    return ColumnMoments(name=name, count=len(found), mean=mean, spread=float(((found - mean) ** 2).sum()))


# Adding up

GROUPS = st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), min_size=1, max_size=5)


@given(groups=GROUPS)
def test_moments_add_up_to_those_of_all_values_in_one_place(groups):
    (whole,) = pooled_moments([[moments_of("x", values)] for values in groups])
    expected = moments_of("x", [value for values in groups for value in values])

    assert expected.count == whole.count
    assert expected.mean == pytest.approx(whole.mean, rel=1e-12, abs=1e-6)
    assert expected.spread == pytest.approx(whole.spread, rel=1e-9, abs=1e-3)


@given(groups=GROUPS, order=st.randoms())
def test_the_order_of_nodes_does_not_matter_to_a_bit(groups, order):
    parts = [[moments_of("x", values)] for values in groups]
    turned = order.sample(parts, len(parts))

    assert pooled_moments(parts) == pooled_moments(turned)


def test_a_large_mean_does_not_drown_a_small_deviation():
    parts = [[moments_of("x", [1e9 + 1, 1e9 + 2])], [moments_of("x", [1e9 + 3, 1e9 + 4])]]

    (whole,) = pooled_moments(parts)

    assert 5.0 == whole.spread
    assert math.sqrt(5 / 3) == whole.deviation


def test_a_column_is_told_once():
    with pytest.raises(ValidationError, match="told twice"):
        TrainRequest.model_validate_json(
            '{"moments": [%s, %s]}' % ((moments_of("x", [1]).model_dump_json(),) * 2)
        )


def test_moments_are_of_a_training_part_that_stays():
    with pytest.raises(InvalidArgumentsError, match="from one training part"):
        TrainingArgs.of(ARGS | {"shuffle_testing_dataset": True})


# In a data set


def bound(tmp_path, columns, **options):
    path = tmp_path / "table.csv"
    pl.DataFrame(columns).write_csv(path)
    manager = DataManager(
        TabularDataset(**({"target_columns": "y"} | options)), batch_size=None, shuffle=False
    )
    manager.bind(path, {})
    return manager


def inputs(manager, moments):
    parts = manager.split(test_ratio=0.0, seed=1, moments=by_name(moments))
    return next(iter(parts.train))[0].tolist()


def test_values_are_standardised_and_gaps_filled_with_what_is_given(tmp_path):
    manager = bound(
        tmp_path, TABLES["north"], input_columns="age", missing={"age": "indicator"}, standardize=True
    )
    given = ColumnMoments(name="age", count=5, mean=50.0, spread=400.0)

    found = inputs(manager, (given,))

    assert [[-2.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]] == np.round(found[:4], 6).tolist()


def test_a_column_that_is_constant_everywhere_becomes_zeros(tmp_path):
    manager = bound(tmp_path, {"age": [5, 5, 5], "y": [0, 1, 0]}, input_columns="age", standardize=True)
    moments, _, _ = manager.measure(test_ratio=0.0, seed=1)

    assert [[0.0]] * 3 == inputs(manager, pooled_moments([moments, moments]))


def test_medians_and_given_moments_stay_as_they_are(tmp_path):
    columns = {"a": [1.0, 2.0, None, 30.0], "b": [1.0, 2.0, 3.0, 4.0], "y": [0, 1, 0, 1]}
    options = {"missing": {"a": "median"}, "standardize": {"b": (1.0, 1.0)}}
    manager = bound(tmp_path, columns, input_columns=["a", "b"], **options)

    assert () == manager.measure(test_ratio=0.0, seed=1)[0]
    assert [2.0, 2.0] == np.round(inputs(manager, ())[2], 6).tolist()


def test_positions_are_measured_under_their_number(tmp_path):
    manager = bound(tmp_path, TABLES["north"], input_columns=[0], missing="mean", standardize=True)

    assert ["0"] == [one.name for one in manager.measure(test_ratio=0.0, seed=1)[0]]


def test_a_column_without_moments_is_an_error(tmp_path):
    manager = bound(tmp_path, TABLES["north"], input_columns="age", missing="mean")

    with pytest.raises(UnknownMomentsError, match="no moments of column 'age' were taken; there are weight"):
        inputs(manager, (moments_of("weight", [1]),))


def test_a_gap_that_no_node_can_fill_is_an_error(tmp_path):
    manager = bound(tmp_path, TABLES["north"], input_columns="age", missing="mean")

    with pytest.raises(MissingValuesError):
        inputs(manager, (moments_of("age", []),))


def test_values_that_are_not_finite_are_refused_and_not_told(tmp_path):
    manager = bound(tmp_path, {"x": [1.0, math.inf], "y": [0, 1]}, input_columns="x", standardize=True)

    with pytest.raises(NonNumericColumnError, match="not finite"):
        manager.measure(test_ratio=0.0, seed=1)


def test_a_plan_without_such_columns_has_no_moments_of_the_federation(tmp_path):
    desk = Desk(tmp_path)
    desk.write_model()

    with pytest.raises(PlanContractError, match="has 0 columns with moments of the federation"):
        Session().run(desk.task(train=False, args={"moments": "federation"}), lambda _: None)


# In an experiment


def test_moments_are_those_of_all_training_parts_and_of_nothing_else(working, federation):
    run = experiment(federation)
    run.run()

    first = run.history()[0]
    (whole,) = run.moments()
    run.close()
    assert ("measure", 0) == (first.kind, first.round)
    told = [first.nodes[node] for node in ("north", "south")]
    assert [6, 6] == [one.samples_train for one in told]
    assert [0, 0] == [one.update_bytes + len(one.validations) for one in told]
    assert (whole,) == pooled_moments([one.moments for one in told])
    assert whole.count == sum(one.moments[0].count for one in told) < 14


def test_an_experiment_asks_once_and_every_round_gets_the_same(working, federation):
    run = experiment(federation)
    run.run()
    run.close()

    requests = working.nodes["north"].of(TrainRequest)
    assert [(0, True), (1, False), (2, False)] == [(one.round, one.measures) for one in requests]
    assert [None, run.moments(), run.moments()] == [one.moments for one in requests]


@pytest.mark.parametrize("kind", [RoundOpened, RoundEnded])
def test_an_experiment_that_died_in_round_0_goes_on_to_the_same_model(working, federation, tmp_path, kind):
    calm = experiment(federation, experimentation_folder="calm")
    calm.run()
    calm.close()
    dead = experiment(federation, experimentation_folder="dead")
    dying(dead, kind)
    with pytest.raises(Death):
        dead.run()
    crash(federation)

    with Place(working, federation.home.path) as place:
        place.settle()
        again = Experiment.resume(dead.folder, federation=place, observers=())
        again.run()
        again.close()
        assert calm.moments() == again.moments()
        assert model_of(calm, tmp_path) == model_of(again, tmp_path)


def test_a_branch_keeps_the_moments_and_a_round_can_be_replayed(working, federation):
    run = experiment(federation)
    run.run()
    run.close()
    past = Experiment.load(run.folder, round=1, federation=federation)
    branch = past.branch("branch")
    branch.run(1)
    branch.close()

    assert past.replay().same
    assert run.moments() == branch.moments()
    assert [1] == [one.round for one in branch.history()]


def test_without_federated_moments_nothing_is_asked(working, federation):
    run = experiment(federation, training_args=ARGS | {"moments": "node"})
    run.run()
    run.close()

    assert [1, 2] == [one.round for one in run.history()]
    assert None is run.moments()


@pytest.mark.parametrize(
    "answer",
    [Failure(text="too few"), Update(moments=(moments_of("age", range(11)),))],
    ids=["failed", "refused"],
)
def test_a_node_that_cannot_tell_ends_the_experiment_unless_the_strategy_does_without(
    trial, federation, answer
):
    told = Update(moments=(moments_of("age", [1.0, 2.0]),))
    trial.start("north", always(told))
    trial.start("south", at_rounds({0: answer}, told))

    strict = make(federation, training_args=ARGS, round_limit=1)
    with pytest.raises(RoundFailedError):
        strict.run()
    strict.close()
    lenient = make(
        federation, training_args=ARGS, round_limit=1, node_selection_strategy=MinimumStrategy(min_nodes=1)
    )
    lenient.run()
    lenient.close()

    assert told.moments == lenient.moments()


@pytest.mark.parametrize(
    ("moments", "reason"),
    [
        (None, "it tells no moments"),
        ((moments_of("age", range(11)),), "more values than its 10 training samples"),
    ],
)
def test_moments_that_cannot_be_are_refused(trial, federation, moments, reason):
    trial.start("north", always(Update(moments=moments)))
    trial.start("south", always(Update(moments=(moments_of("age", [1.0]),))))

    with pytest.raises(RoundFailedError, match=reason):
        make(federation, training_args=ARGS, round_limit=1).run()


def test_nobody_is_asked_to_train_before_moments_are_known(trial, federation):
    trial.start("north")
    trial.start("south")
    run = make(federation, round_limit=1)
    run.run()
    run.close()
    (request,) = trial.nodes["north"].of(TrainRequest)

    with pytest.raises(ValidationError, match="nobody trains before"):
        TrainRequest.model_validate(
            request.model_dump() | {"training_args": TrainingArgs.of(ARGS).model_dump()}
        )
