"""Nodes grow one ensemble of trees together."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import xgboost

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import (
    InvalidArgumentsError,
    InvalidSettingsError,
    MissingExtraError,
    PlanContractError,
)
from common.training_args import TrainingArgs
from common.training_plans import FedXGBClassifier, FedXGBRegressor
from common.training_plans.seeding import seed_everything
from node.worker.session import Session
from researcher import DefaultStrategy, RoundRobinSampling, TreeEnsemble
from researcher.aggregators import Contribution
from tests.support.experiments import make
from tests.support.tasks import Desk
from tests.support.working_node import start_working, write_columns

ARGS = {"epochs": 2, "random_seed": 7}
NODES = ("north", "south")


class ClassPlan(FedXGBClassifier):
    """Tell two classes apart by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y"), batch_size=16)


class NumberPlan(FedXGBRegressor):
    """Guess a number by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y"), batch_size=16)


@pytest.fixture
def nodes():
    return NODES


def samples(seed, rows=80):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 3)).astype(np.float32)
    return inputs, (inputs[:, 0] * inputs[:, 1] > 0).astype(int)  # no line tells them apart


def start_nodes(trial, tmp_path):
    tables = [samples(seed) for seed in range(len(NODES))]
    for node, (inputs, target) in zip(NODES, tables, strict=True):
        table = dict(zip("abc", inputs.T, strict=True))
        start_working(trial, node, write_columns(tmp_path / f"{node}.csv", **table, y=target))
    return [np.concatenate(parts) for parts in zip(*tables, strict=True)]


def prepared(kind, args=ARGS, **model_args):
    plan = kind()
    plan.prepare(model_args={"n_features": 3} | model_args, training_args=TrainingArgs.of(args))
    return plan


def loader(inputs, target):
    rows = [(torch.from_numpy(x), y) for x, y in zip(inputs, target, strict=True)]
    return DataManager(rows, batch_size=None, shuffle=False).split(test_ratio=0.0, seed=1).train


def grown(kind, seed, inputs, target, args=ARGS, base=None, **model_args):
    """Return a plan after one round at one node."""
    plan = prepared(kind, args, **model_args)
    if base is not None:
        plan.set_model_params(base.get_model_params())
    seed_everything(seed)
    plan.train(loader(inputs, target), lambda point: None)
    return plan


def joined(tmp_path, base, *updates):
    """Return the plan that the aggregator makes of updates, given with their number of samples."""
    base.export_model(tmp_path / "base")
    contributions = []
    for number, (update, count) in enumerate(updates):
        update.export_model(tmp_path / f"update-{number}")
        contributions.append(Contribution(f"n{number}", tmp_path / f"update-{number}", count, count))
    TreeEnsemble().aggregate(tmp_path / "base", contributions, tmp_path / "next")
    base.import_model(tmp_path / "next")
    return base


def test_two_nodes_learn_what_no_line_can(trial, federation, tmp_path):
    inputs, target = start_nodes(trial, tmp_path)
    experiment = make(
        federation, training_plan_class=ClassPlan, training_args=ARGS, model_args={"n_features": 3}
    )

    experiment.run(5)

    plan = experiment.training_plan()
    guesses = plan.predict(torch.from_numpy(inputs)) > 0
    assert (guesses.numpy() == target).mean() > 0.95
    assert 20 == int(plan.get_model_params()["trees"])


def test_with_one_node_in_each_round_boosting_goes_from_node_to_node(trial, federation, tmp_path):
    inputs, target = start_nodes(trial, tmp_path)
    experiment = make(
        federation,
        training_plan_class=ClassPlan,
        training_args=ARGS,
        model_args={"n_features": 3},
        node_selection_strategy=DefaultStrategy(sampling=RoundRobinSampling(num_nodes=1)),
    )

    experiment.run(4)

    assert [1, 1, 1, 1] == [len(record.nodes) for record in experiment.history()]
    plan = experiment.training_plan()
    assert 8 == int(plan.get_model_params()["trees"])
    assert ((plan.predict(torch.from_numpy(inputs)) > 0).numpy() == target).mean() > 0.9


@pytest.mark.parametrize(
    ("kind", "objective"), [(ClassPlan, "binary:logistic"), (NumberPlan, "reg:squarederror")]
)
def test_one_node_grows_the_trees_of_xgboost(kind, objective):
    inputs, target = samples(1)
    inputs[::5, 1] = np.nan
    settings = {"max_depth": 3, "learning_rate": 0.5, "reg_lambda": 2.0}

    first = grown(kind, 1, inputs, target, {"epochs": 3}, **settings)
    both = grown(kind, 1, inputs, target, {"epochs": 2}, base=first, **settings)

    matrix = xgboost.DMatrix(inputs, label=target, base_margin=np.zeros(len(target)))
    alone = xgboost.train(settings | {"objective": objective, "tree_method": "hist", "nthread": 1}, matrix, 5)
    expected = alone.predict(matrix, output_margin=True)
    np.testing.assert_allclose(both.predict(torch.from_numpy(inputs)).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_round_adds_the_weighted_mean_of_the_trees_of_nodes(tmp_path):
    base = grown(ClassPlan, 1, *samples(1))
    north, south = (grown(ClassPlan, 2, *samples(seed), base=base) for seed in (2, 3))
    data = torch.from_numpy(samples(4)[0])
    before, *after = (plan.predict(data) for plan in (base, north, south))

    found = joined(tmp_path, base, (north, 30), (south, 10))

    expected = before + 0.75 * (after[0] - before) + 0.25 * (after[1] - before)
    np.testing.assert_allclose(found.predict(data).numpy(), expected.numpy(), atol=1e-6)
    assert 6 == int(found.get_model_params()["trees"])


def test_whatever_a_node_sends_is_a_tree(tmp_path):
    base, wild = prepared(ClassPlan, max_trees=4), prepared(ClassPlan, max_trees=4)
    params = {name: value.clone() for name, value in wild.get_model_params().items()}
    params["feature"] += 2**31 - 1
    params["missing_left"] += 7
    params["value"] += 1.0
    params["trees"] += 10**15
    wild.set_model_params(params)

    found = joined(tmp_path, base, (wild, 10))

    assert 4 == int(found.get_model_params()["trees"])
    assert [4.0, 4.0] == found.predict(torch.zeros(2, 3)).tolist()
    assert [4.0, 4.0] == wild.predict(torch.zeros(2, 3)).tolist()


def test_a_full_ensemble_says_so(tmp_path):
    with pytest.raises(PlanContractError, match="raise max_trees"):
        grown(ClassPlan, 1, *samples(1), max_trees=1)
    base = prepared(ClassPlan, max_trees=3)
    update = grown(ClassPlan, 1, *samples(1), max_trees=3)

    with pytest.raises(InvalidSettingsError, match="max_trees: 3 is too few"):
        joined(tmp_path, base, (update, 1), (update, 1))


def test_a_warm_worker_gives_bit_for_bit_what_a_fresh_one_gives(tmp_path):
    desk, arguments = Desk(tmp_path, ClassPlan), {"n_features": 3, "subsample": 0.5}
    desk.write_model(**arguments)
    args = {"epochs": 2, "num_updates": None, "test_ratio": 0.25, "test_on_local_updates": True}
    session = Session()
    session.run(desk.task(args=args, model_args=arguments, seed=3), lambda progress: None)

    warm = session.run(desk.task(args=args, model_args=arguments), lambda progress: None)
    fresh = Session().run(desk.task(args=args, model_args=arguments), lambda progress: None)

    assert warm.update == fresh.update
    assert warm.done.validations[0].metrics.keys() == {"loss", "ACCURACY"}
    assert 2 * 30 == warm.done.samples_seen


@pytest.mark.parametrize("args", [{"num_updates": 3}, {"epochs": 1, "optimizer_args": {"lr": 0.1}}])
def test_trees_are_counted_by_epochs_alone(args):
    with pytest.raises(InvalidArgumentsError):
        prepared(ClassPlan, args)


def test_wrong_arguments_are_named():
    with pytest.raises(InvalidSettingsError, match="max_depth"):
        prepared(ClassPlan, max_depth=40)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)

    with pytest.raises(MissingExtraError) as error:
        grown(ClassPlan, 1, *samples(1))
    assert 'install it: pip install "warren-fl[trees]"' == error.value.advice
