"""scikit-learn's models learn in a federation as they do alone, and travel as tensors."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neural_network import MLPClassifier

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import (
    InvalidArgumentsError,
    InvalidSettingsError,
    MissingExtraError,
    ModelMismatchError,
    PlanContractError,
)
from common.optimizers import Optimizer
from common.training_args import TrainingArgs
from common.training_plans import (
    FedBernoulliNB,
    FedGaussianNB,
    FedMLPClassifier,
    FedPerceptron,
    FedSGDClassifier,
    FedSGDRegressor,
)
from common.training_plans.losses import LOSSES
from node.worker.session import Session
from tests.support.experiments import make
from tests.support.tasks import Desk
from tests.support.working_node import start_working, write_columns

SETTINGS = {"num_updates": 20, "loader_args": {"batch_size": 8}, "random_seed": 7}
NODES = ("north", "south")


class ClassifierPlan(FedSGDClassifier):
    """Tell classes apart by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=8)


class PerceptronPlan(FedPerceptron):
    """Tell classes apart by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=8)


class NetworkPlan(FedMLPClassifier):
    """Tell classes apart by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=8)


class RegressorPlan(FedSGDRegressor):
    """Guess a number by two columns; metrics as people write them for scikit-learn."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b"], "c", dtype="float64"), batch_size=8)

    def testing_step(self, data, target):
        guesses = self.model().predict(data)
        return {"worst": np.max(np.abs(guesses - target)), "arrays": isinstance(target, np.ndarray)}


class SteppedPlan(FedSGDClassifier):
    """Take steps of an optimizer of modules."""

    def init_optimizer(self, optimizer_args):
        return Optimizer(lr=optimizer_args["lr"])

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=None)


class GaussianPlan(FedGaussianNB):
    """Tell classes apart by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=8)


class BernoulliPlan(FedBernoulliNB):
    """Tell classes apart by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=8)


@pytest.fixture
def nodes():
    return NODES


def samples(seed, *, classes=2, rows=60):
    rng = np.random.default_rng(seed)
    target = rng.integers(classes, size=rows)
    return rng.normal(size=(rows, 3)) + 2 * np.eye(3)[target], target


def start_nodes(trial, tmp_path, classes=2):
    """Start nodes with classes to tell apart; returns what they have together."""
    tables = [samples(seed, classes=classes) for seed in range(len(NODES))]
    for node, (inputs, target) in zip(NODES, tables, strict=True):
        table = dict(zip("abc", inputs.T, strict=True))
        start_working(trial, node, write_columns(tmp_path / f"{node}.csv", **table, y=target))
    return np.concatenate([x for x, _ in tables]), np.concatenate([y for _, y in tables])


def trained(federation, plan, rounds=3, **settings):
    model_args = {"n_features": 3, "n_classes": 2} | settings.pop("model_args", {})
    experiment = make(
        federation,
        **{"training_plan_class": plan, "training_args": SETTINGS, "model_args": model_args} | settings,
    )
    experiment.run(rounds)
    return experiment.training_plan()


def prepared(kind, args=SETTINGS, **model_args):
    plan = kind()
    plan.prepare(model_args={"n_features": 3} | model_args, training_args=TrainingArgs.of(args))
    return plan


def loader(inputs, target, size=None):
    manager = DataManager(
        [(torch.from_numpy(x), y) for x, y in zip(inputs, target, strict=True)],
        batch_size=size,
        shuffle=False,
    )
    return manager.split(test_ratio=0.0, seed=1).train


# In a federation


@pytest.mark.parametrize("plan", [ClassifierPlan, PerceptronPlan, NetworkPlan])
def test_a_classifier_comes_back_as_an_estimator(trial, federation, tmp_path, plan):
    inputs, target = start_nodes(trial, tmp_path, classes=3)

    found = trained(federation, plan, model_args={"n_classes": 3})

    assert (found.model().predict(inputs) == target).mean() > 0.75
    assert {"ACCURACY", "loss"} == found.validate(loader(inputs, target)).metrics.keys()


def test_a_regressor_is_tested_as_people_write_it_for_scikit_learn(trial, federation, tmp_path):
    start_nodes(trial, tmp_path)

    found = trained(federation, RegressorPlan, model_args={"n_features": 2, "eta0": 0.005})

    assert (2,) == found.model().coef_.shape
    metrics = found.validate(loader(np.ones((4, 2)), np.zeros(4))).metrics
    assert 1.0 == metrics["arrays"]
    assert metrics["worst"] == pytest.approx(abs(found.model().predict(np.ones((1, 2)))[0]))


def test_gaussian_naive_bayes_is_that_of_pooled_data(trial, federation, tmp_path):
    inputs, target = start_nodes(trial, tmp_path)

    found = trained(federation, GaussianPlan, 1, training_args={"epochs": 1, "random_seed": 7})

    expected = GaussianNB().fit(inputs, target)
    for name in ("theta_", "var_", "class_prior_", "class_count_"):
        np.testing.assert_allclose(getattr(found.model(), name), getattr(expected, name), rtol=1e-12)
    np.testing.assert_allclose(found.model().predict_proba(inputs), expected.predict_proba(inputs), rtol=1e-9)
    np.testing.assert_allclose(
        found.predict(torch.from_numpy(inputs)).softmax(1).numpy(), expected.predict_proba(inputs), rtol=1e-9
    )


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.1, "binarize": 1.0, "fit_prior": False}])
def test_bernoulli_naive_bayes_is_that_of_pooled_data(trial, federation, tmp_path, settings):
    inputs, target = start_nodes(trial, tmp_path)

    found = trained(
        federation, BernoulliPlan, 1, training_args={"epochs": 1, "random_seed": 7}, model_args=settings
    )

    expected = BernoulliNB(**settings).fit(inputs, target)
    np.testing.assert_allclose(found.model().feature_log_prob_, expected.feature_log_prob_, rtol=1e-12)
    np.testing.assert_allclose(
        found.model().predict_proba(inputs), expected.predict_proba(inputs), rtol=1e-12
    )
    np.testing.assert_allclose(
        found.predict(torch.from_numpy(inputs)).softmax(1).numpy(), expected.predict_proba(inputs), rtol=1e-9
    )


# At one node


def test_steps_are_those_of_scikit_learn():
    inputs, target = samples(1)
    plan = prepared(
        ClassifierPlan, {"epochs": 1, "random_seed": 1}, n_classes=2, loss="log_loss", shuffle=False
    )

    plan.train(loader(inputs, target, 8), lambda point: None)

    alone = SGDClassifier(loss="log_loss", shuffle=False)
    for first in range(0, len(target), 8):
        alone.partial_fit(inputs[first : first + 8], target[first : first + 8], classes=[0, 1])
    np.testing.assert_array_equal(alone.coef_, plan.model().coef_)
    np.testing.assert_array_equal(alone.intercept_, plan.model().intercept_)
    assert 61 == int(plan.get_model_params()["t_"]) == alone.t_


@pytest.mark.parametrize("penalty", ["l2", None])
@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("output", [-3.0, -0.5, 0.4, 0.95, 2.5])
def test_losses_have_the_gradients_of_scikit_learn(loss, penalty, output):
    target = torch.tensor([1.0])
    weights = torch.tensor([0.5, output - 0.5], dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(LOSSES[loss](weights.sum()[None], target, 0.1).sum())
    shrunk = 0.01 * weights.detach().numpy() if penalty else 0.0

    alone = SGDClassifier(
        loss=loss,
        penalty=penalty,
        alpha=0.01,
        epsilon=0.1,
        learning_rate="constant",
        eta0=1.0,
        fit_intercept=False,
    )
    alone.partial_fit(np.zeros((1, 2)), [0], classes=[0, 1])
    alone.coef_ = weights.detach().numpy().copy()[None]
    alone.partial_fit(np.ones((1, 2)), [1])

    taken = weights.detach().numpy() - alone.coef_[0]
    # scikit-learn shrinks the weights before it adds the gradient of the unshrunk ones
    np.testing.assert_allclose(taken, weights.grad.numpy() + shrunk, atol=1e-9)


def test_an_optimizer_of_modules_takes_steps_along_the_mean_gradient():
    inputs, target = samples(2, classes=3)
    plan = prepared(
        SteppedPlan,
        {"num_updates": 4, "optimizer_args": {"lr": 0.1}, "random_seed": 1},
        n_classes=3,
        loss="log_loss",
        alpha=0.05,
        penalty="elasticnet",
        l1_ratio=0.2,
    )

    plan.train(loader(inputs, target), lambda point: None)

    signs, weights, intercept = 2 * np.eye(3)[target] - 1, np.zeros((3, 3)), np.zeros(3)
    for _ in range(4):
        pulls = -signs / (1 + np.exp(signs * (inputs @ weights.T + intercept)))
        shrink = 0.05 * (0.8 * weights + 0.2 * np.sign(weights))
        weights = weights - 0.1 * (pulls.T @ inputs / len(inputs) + shrink)
        intercept = intercept - 0.1 * pulls.mean(0)
    np.testing.assert_allclose(plan.model().coef_, weights, rtol=1e-9)
    np.testing.assert_allclose(plan.model().intercept_, intercept, rtol=1e-9)


def test_a_network_takes_the_steps_of_scikit_learn():
    inputs, target = samples(3)
    arguments = {"hidden_layer_sizes": [4], "solver": "sgd", "learning_rate_init": 0.1}
    plan = prepared(NetworkPlan, {"num_updates": 3, "random_seed": 1}, n_classes=2, **arguments)
    alone = MLPClassifier(**arguments).partial_fit(inputs, target, classes=[0, 1])
    del alone._optimizer
    alone.coefs_ = [value.copy() for value in plan.model().coefs_]
    alone.intercepts_ = [value.copy() for value in plan.model().intercepts_]

    plan.set_model_params(plan.get_model_params())
    plan.train(loader(inputs, target), lambda point: None)

    for _ in range(3):
        alone.partial_fit(inputs, target)
    # the order within a batch is drawn anew, which moves sums by rounding errors
    for ours, theirs in zip(plan.model().coefs_, alone.coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_first_weights_depend_on_the_seed_alone():
    first, same = (prepared(NetworkPlan, n_classes=2).get_model_params() for _ in range(2))
    other = prepared(NetworkPlan, SETTINGS | {"random_seed": 8}, n_classes=2).get_model_params()

    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["coefs_.0"], other["coefs_.0"])


@pytest.mark.parametrize("plan", [ClassifierPlan, NetworkPlan, GaussianPlan])
def test_a_warm_worker_gives_bit_for_bit_what_a_fresh_one_gives(tmp_path, plan):
    desk, arguments = Desk(tmp_path, plan), {"n_features": 3, "n_classes": 2}
    desk.write_model(**arguments)
    args = {"epochs": 1, "num_updates": None, "test_ratio": 0.25, "test_on_local_updates": True}
    session = Session()
    session.run(desk.task(args=args, model_args=arguments, seed=3), lambda progress: None)

    warm = session.run(desk.task(args=args, model_args=arguments), lambda progress: None)
    fresh = Session().run(desk.task(args=args, model_args=arguments), lambda progress: None)

    assert warm.update == fresh.update
    assert warm.done.validations == fresh.done.validations
    assert 0 <= warm.done.validations[0].metrics["ACCURACY"] <= 1


def test_a_model_travels_through_a_file_of_tensors(tmp_path):
    inputs, target = samples(1)
    plan = prepared(ClassifierPlan, n_classes=2)
    plan.train(loader(inputs, target, 8), lambda point: None)
    plan.export_model(tmp_path / "model")

    other = prepared(ClassifierPlan, n_classes=2)
    other.import_model(tmp_path / "model")

    np.testing.assert_array_equal(plan.model().predict(inputs), other.model().predict(inputs))
    with pytest.raises(ModelMismatchError):
        prepared(ClassifierPlan, n_classes=3).import_model(tmp_path / "model")


# What cannot be


@pytest.mark.parametrize(
    ("plan", "model_args"),
    [
        (ClassifierPlan, {"n_classes": 2, "loss": "guess"}),
        (ClassifierPlan, {"n_classes": 2, "average": True}),
        (ClassifierPlan, {"n_classes": 2, "class_weight": {"0": 2.0}}),
        (ClassifierPlan, {"n_classes": 1}),
        (ClassifierPlan, {}),
        (NetworkPlan, {"n_classes": 2, "solver": "lbfgs"}),
        (NetworkPlan, {"n_classes": 2, "early_stopping": True}),
        (GaussianPlan, {"n_classes": 2, "var_smoothing": -1}),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_sent(plan, model_args):
    args = {"epochs": 1, "random_seed": 7}
    with pytest.raises(InvalidSettingsError, match="model_args"):
        prepared(plan, args, **model_args)


@pytest.mark.parametrize("args", [{"fedprox_mu": 0.1}, {"optimizer_args": {"lr": 0.1}}])
def test_training_arguments_that_would_do_nothing_are_refused(args):
    with pytest.raises(InvalidArgumentsError):
        prepared(ClassifierPlan, SETTINGS | args, n_classes=2)


@pytest.mark.parametrize("target", [[0, 2], [0.5, 1], [-1, 1]])
def test_a_target_that_is_no_class_is_refused(target):
    plan = prepared(ClassifierPlan, n_classes=2)

    with pytest.raises(PlanContractError, match="other than the classes 0 to 1"):
        plan.train(loader(np.ones((2, 3)), np.array(target)), lambda point: None)


def test_data_of_another_shape_are_refused():
    plan = prepared(ClassifierPlan, n_classes=2)

    with pytest.raises(PlanContractError, match=r"gives inputs of \[2\], and n_features is 3"):
        plan.train(loader(np.ones((2, 2)), np.array([0, 1])), lambda point: None)


@pytest.mark.parametrize("kind", [SGDClassifier, SGDRegressor])
def test_no_average_is_the_default_of_scikit_learn(kind):
    assert kind().average is False


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)

    with pytest.raises(MissingExtraError) as error:
        prepared(ClassifierPlan, n_classes=2)
    assert 'install it: pip install "warren-fl[sklearn]"' == error.value.advice
