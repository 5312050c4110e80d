"""What nodes add up is what pooled data give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import (
    InvalidArgumentsError,
    InvalidSettingsError,
    NotSolvableError,
    PlanContractError,
    PlanSettingsError,
)
from common.optimizers import Optimizer
from common.payload.tensors import save_tensors
from common.training_args import TrainingArgs
from common.training_plans import FedCoxPH, FedLinearRegression, FedLogisticRegression, FedRidge
from common.training_plans.cox import concordance
from common.training_plans.inference import incomplete_beta, t_quantile, t_tails
from common.training_plans.newton import NewtonPlan
from deploy.demo.hospitals import FEATURES, hospitals, write_csv
from researcher import AsyncStrategy, Experiment, FedAverage, NewtonStep, SumStatistics
from researcher.aggregators import Contribution
from tests.support.experiments import make
from tests.support.fake_node import Place, Trial
from tests.support.tiny_plan import TinyPlan
from tests.support.working_node import start_working, write_columns

ONE_PASS = {"epochs": 1, "random_seed": 7}
NODES = ("north", "south", "west")


class LinearPlan(FedLinearRegression):
    """A line through three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=16)


class RidgePlan(FedRidge):
    """A shrunken line through three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=None)


class RiskPlan(FedLogisticRegression):
    """Tell two classes apart by three columns."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=16)


class HospitalPlan(FedLogisticRegression):
    """Tell ill from healthy patients."""

    def training_data(self):
        dataset = TabularDataset(list(self.model_args()["feature_names"]), "target", dtype="float64")
        return DataManager(dataset)


class SurvivalPlan(FedCoxPH):
    """Tell who dies sooner by three columns."""

    def training_data(self):
        dataset = TabularDataset(["a", "b", "c"], ["time", "event"], dtype="float64")
        return DataManager(dataset, batch_size=16)


class CountPlan(NewtonPlan):
    """Poisson regression, an exact model of somebody's own."""

    def derivatives(self, data, target, coefficients):
        counts, scores = self.targets(target), data @ coefficients
        means = scores.exp()
        return (counts * scores - means).sum(), data.T @ (counts - means), data.T @ (means[:, None] * data)

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y", dtype="float64"), batch_size=16)


@pytest.fixture
def nodes():
    return NODES


def samples(seed, rows=40):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 3)) * [1.0, 10.0, 0.1] + [0.0, 50.0, 1.0]
    return rng, inputs, (inputs - [0.0, 50.0, 1.0]) @ [0.8, -0.05, 6.0]


def columns(inputs, **more):
    return {**dict(zip("abc", inputs.T, strict=True)), **more}


def linear_tables(trial, tmp_path):
    tables = []
    for seed, node in enumerate(NODES):
        rng, inputs, scores = samples(seed)
        target = scores + 0.5 * rng.normal(size=len(scores)) + 2
        tables.append((inputs, target))
        start_working(trial, node, write_columns(tmp_path / f"{node}.csv", **columns(inputs, y=target)))
    return np.concatenate([x for x, _ in tables]), np.concatenate([y for _, y in tables])


def class_tables(trial, tmp_path):
    tables = []
    for seed, node in enumerate(NODES):
        rng, inputs, scores = samples(seed)
        target = (rng.random(len(scores)) < 1 / (1 + np.exp(-scores))).astype(int)
        tables.append((inputs, target))
        start_working(trial, node, write_columns(tmp_path / f"{node}.csv", **columns(inputs, y=target)))
    return np.concatenate([x for x, _ in tables]), np.concatenate([y for _, y in tables])


def fitted(federation, plan, rounds, **model_args):
    experiment = make(
        federation,
        training_plan_class=plan,
        training_args=ONE_PASS,
        model_args={"n_features": 3} | model_args,
    )
    experiment.run(rounds)
    return experiment.training_plan()


def test_linear_regression_is_that_of_pooled_data_after_one_round(trial, federation, tmp_path):
    inputs, target = linear_tables(trial, tmp_path)

    plan = fitted(federation, LinearPlan, 1)

    design = np.column_stack([inputs, np.ones(len(inputs))])
    expected, (residual,), *_ = np.linalg.lstsq(design, target)
    np.testing.assert_allclose(plan.coefficients().numpy(), expected, rtol=1e-9)
    freedom = len(target) - 4
    summary = plan.summary()
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * residual / freedom)
    np.testing.assert_allclose([one.std_error for one in summary.coefficients], errors, rtol=1e-7)
    p_values = 2 * stats.t.sf(np.abs(expected / errors), freedom)
    np.testing.assert_allclose(
        [one.p_value for one in summary.coefficients], p_values, rtol=1e-5, atol=1e-300
    )
    low, _ = stats.t.interval(0.95, freedom, loc=expected, scale=errors)
    np.testing.assert_allclose([one.low for one in summary.coefficients], low, rtol=1e-7)
    assert summary.residual_variance == pytest.approx(residual / freedom, rel=1e-8)
    assert summary.samples == len(target)
    assert summary["x1"].ratio is None
    assert "intercept" in str(summary)


def test_ridge_regression_is_that_of_pooled_data(trial, federation, tmp_path):
    inputs, target = linear_tables(trial, tmp_path)

    plan = fitted(federation, RidgePlan, 1, alpha=3.0)

    expected = Ridge(alpha=3.0, solver="cholesky").fit(inputs, target)
    np.testing.assert_allclose(plan.coefficients().numpy(), [*expected.coef_, expected.intercept_], rtol=1e-9)
    assert plan.summary()["x0"].p_value is None


@pytest.mark.parametrize("strength", [None, 0.5])
def test_logistic_regression_reaches_the_optimum_of_pooled_data(trial, federation, tmp_path, strength):
    inputs, target = class_tables(trial, tmp_path)

    plan = fitted(federation, RiskPlan, 9, C=strength, feature_names=["age", "chol", "st"])

    expected = LogisticRegression(C=strength or np.inf, tol=1e-12, solver="newton-cholesky").fit(
        inputs, target
    )
    np.testing.assert_allclose(
        plan.coefficients().numpy(), [*expected.coef_[0], *expected.intercept_], rtol=1e-7
    )
    summary = plan.summary()
    assert summary.last_step < 1e-6
    assert summary["age"].ratio == pytest.approx(np.exp(summary["age"].estimate))
    design = np.column_stack([inputs, np.ones(len(inputs))])
    chances = expected.predict_proba(inputs)[:, 1]
    information = design.T @ ((chances * (1 - chances))[:, None] * design)
    inverse = np.linalg.inv(information + np.diag([1 / (strength or np.inf)] * 3 + [0]))
    errors = np.sqrt(np.diag(inverse @ information @ inverse))
    np.testing.assert_allclose([one.std_error for one in summary.coefficients], errors, rtol=1e-6)


def test_four_real_hospitals_get_the_model_of_their_pooled_patients(tmp_path):
    trial = Trial(tmp_path / "nodes", tuple(hospitals()))
    for name, hospital in hospitals().items():
        write_csv(hospital, tmp_path / f"{name}.csv")
        start_working(trial, name, tmp_path / f"{name}.csv")

    with Place(trial, tmp_path / "home") as federation:
        arguments = {"n_features": len(FEATURES), "feature_names": list(FEATURES)}
        plan = fitted(federation, HospitalPlan, 8, **arguments)
    trial.close()

    pooled = [
        np.concatenate([getattr(one, part) for one in hospitals().values()])
        for part in ("features", "labels")
    ]
    expected = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky").fit(*pooled)
    np.testing.assert_allclose(plan.coefficients().numpy()[:-1], expected.coef_[0], rtol=1e-6)
    assert plan.summary()["sex"].p_value < 0.001


def test_an_exact_model_of_ones_own_is_one_method(trial, federation, tmp_path):
    tables = []
    for seed, node in enumerate(NODES):
        rng, inputs, scores = samples(seed)
        target = rng.poisson(np.exp(scores / 3))
        tables.append((inputs, target))
        start_working(trial, node, write_columns(tmp_path / f"{node}.csv", **columns(inputs, y=target)))

    found = fitted(federation, CountPlan, 8).coefficients().numpy()

    inputs, target = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    expected = PoissonRegressor(alpha=0, tol=1e-12, solver="newton-cholesky").fit(inputs, target)
    np.testing.assert_allclose(found, [*expected.coef_, expected.intercept_], rtol=1e-6)


def reference(strata, ties):
    """Return the stratified log partial likelihood as a function, in the plainest way."""

    def value(w):
        total = 0.0
        for inputs, times, events in strata:
            risks = np.exp(inputs @ w)
            for time in np.unique(times[events == 1]):
                died = (times == time) & (events == 1)
                count = died.sum()
                total += (inputs[died] @ w).sum()
                for rank in range(count):
                    share = rank / count if ties == "efron" else 0.0
                    total -= np.log(risks[times >= time].sum() - share * risks[died].sum())
        return total

    return value


def slopes(function, at, step=1e-4):
    return np.array(
        [(function(at + step * unit) - function(at - step * unit)) / (2 * step) for unit in np.eye(len(at))]
    )


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_cox_regression_reaches_the_optimum_of_the_stratified_likelihood(trial, federation, tmp_path, ties):
    strata = []
    for seed, node in enumerate(NODES):
        rng, inputs, scores = samples(seed)
        times = np.ceil(rng.exponential(np.exp(-scores)) * 10 * (seed + 1))  # whole months, so there are ties
        events = (rng.random(len(times)) < 0.7).astype(int)
        strata.append((inputs, times, events))
        table = columns(inputs, time=times, event=events)
        start_working(trial, node, write_columns(tmp_path / f"{node}.csv", **table))

    plan = fitted(federation, SurvivalPlan, 8, ties=ties)

    likelihood, found = reference(strata, ties), plan.coefficients().numpy()
    assert plan.summary().log_likelihood == pytest.approx(likelihood(found), rel=1e-10)
    errors = np.array([one.std_error for one in plan.summary().coefficients])
    np.testing.assert_allclose(slopes(likelihood, found) * errors, 0, atol=1e-5)
    curvature = np.array([slopes(lambda w, i=i: slopes(likelihood, w)[i], found) for i in range(3)])
    np.testing.assert_allclose(errors, np.sqrt(np.diag(np.linalg.inv(-curvature))), rtol=1e-3)
    assert likelihood(found) > likelihood(np.zeros(3))


def test_a_branch_and_a_replay_give_the_same_bytes(trial, federation, tmp_path):
    class_tables(trial, tmp_path)
    experiment = make(
        federation, training_plan_class=RiskPlan, training_args=ONE_PASS, model_args={"n_features": 3}
    )
    experiment.run(2)

    with Experiment.resume(experiment.folder, federation=federation, observers=()) as resumed:
        resumed.run(1)
        past = Experiment.load(resumed.folder, 2, federation=federation)
        assert Experiment.load(resumed.folder, 3, federation=federation).replay().same
        with past.branch(tmp_path / "branch") as branch:
            branch._observers.clear()
            branch.run(1)
            assert str(branch.training_plan().summary()) == str(resumed.training_plan().summary())


# What cannot be


def test_a_sum_cannot_be_averaged(federation):
    with pytest.raises(
        PlanSettingsError, match="RiskPlan needs the aggregator NewtonStep, and the experiment has FedAverage"
    ):
        Experiment(tags=["x"], training_plan_class=RiskPlan, training_args=ONE_PASS, aggregator=FedAverage())


def test_models_cannot_be_added_up():
    with pytest.raises(PlanSettingsError, match="an aggregator that makes a model out of models"):
        Experiment(tags=["x"], training_plan_class=TinyPlan, training_args=ONE_PASS, aggregator=NewtonStep())


@pytest.mark.parametrize(
    "setting",
    [
        {"encoding": "int8"},
        {"agg_optimizer": Optimizer(lr=1.0)},
        {"node_selection_strategy": AsyncStrategy(buffer=2)},
    ],
)
def test_statistics_are_neither_rounded_nor_stepped_nor_late(setting):
    with pytest.raises(PlanSettingsError):
        Experiment(tags=["x"], training_plan_class=RiskPlan, training_args=ONE_PASS, **setting)


def test_settings_that_do_not_suit_the_plan_are_refused_later_as_well():
    experiment = Experiment(tags=["x"], training_plan_class=RiskPlan, training_args=ONE_PASS)

    assert experiment.aggregator() == NewtonStep()
    with pytest.raises(PlanSettingsError):
        experiment.set_encoding("fp16")
    assert experiment.encoding() == "raw"


def test_a_survival_model_is_validated_by_concordance():
    plan = prepared(SurvivalPlan)
    plan.set_model_params(
        plan.get_model_params() | {"coefficients": torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)}
    )
    rows = [(torch.tensor([-t, 0.0, 0.0]), torch.tensor([t, 1.0])) for t in (1.0, 2.0, 3.0)]
    parts = DataManager(rows, batch_size=2).split(test_ratio=0.0, seed=1)

    metrics = plan.validate(parts.train).metrics

    assert 1.0 == metrics["C_INDEX"]
    scores = np.array([-1.0, -2.0, -3.0])
    expected = sum(np.log(np.exp(scores[i:]).sum()) - scores[i] for i in range(3)) / 3
    assert metrics["loss"] == pytest.approx(expected)


@pytest.mark.parametrize("length", [1e3, -1e6])
def test_a_step_far_too_long_still_gives_numbers_so_that_it_can_be_halved(length):
    plan, (rng, inputs, _) = prepared(SurvivalPlan), samples(1)
    times = torch.from_numpy(np.ceil(rng.exponential(size=len(inputs)) * 5))
    outcomes = torch.stack([times, torch.ones(len(times))], dim=1)

    for part in plan.derivatives(
        torch.from_numpy(inputs), outcomes, length * torch.ones(3, dtype=torch.float64)
    ):
        assert part.isfinite().all()


@pytest.mark.parametrize("target", [[1.0, 2.0], [-1.0, 1.0], [float("nan"), 0.0]])
def test_what_is_no_time_and_event_is_refused(target):
    rows = [(torch.zeros(3), torch.tensor(target))] * 2

    with pytest.raises(PlanContractError, match="times that are not negative"):
        prepared(SurvivalPlan).train(
            DataManager(rows).split(test_ratio=0.0, seed=1).train, lambda point: None
        )


def test_a_batch_that_is_dropped_would_be_missing_in_the_sum():
    rows = [(torch.zeros(3), torch.tensor(1))] * 5
    train = DataManager(rows, batch_size=2, drop_last=True).split(test_ratio=0.0, seed=1).train

    with pytest.raises(PlanContractError, match="4 of 5 samples"):
        prepared(RiskPlan).train(train, lambda point: None)


def test_an_experiment_goes_on_with_the_aggregator_that_it_had(trial, federation, tmp_path):
    class_tables(trial, tmp_path)
    experiment = make(
        federation, training_plan_class=RiskPlan, training_args=ONE_PASS, model_args={"n_features": 3}
    )
    experiment.run(1)

    with pytest.raises(PlanSettingsError, match="needs the aggregator NewtonStep"):
        Experiment.resume(experiment.folder, federation=federation, aggregator=FedAverage())


def prepared(kind, args=ONE_PASS, **model_args):
    plan = kind()
    plan.prepare(model_args={"n_features": 3} | model_args, training_args=TrainingArgs.of(args))
    return plan


@pytest.mark.parametrize("args", [{"epochs": 2}, {"num_updates": 3}, {"epochs": 1, "dry_run": True}])
def test_a_sum_takes_one_pass_over_the_data(args):
    with pytest.raises(InvalidArgumentsError):
        prepared(RiskPlan, args)


@pytest.mark.parametrize("model_args", [{"n_features": 0}, {"C": -1.0}, {"feature_names": ["a"]}])
def test_wrong_arguments_of_a_model_are_named(model_args):
    with pytest.raises(InvalidSettingsError, match="model_args"):
        prepared(RiskPlan, **model_args)


def test_a_summary_before_the_first_round_is_refused():
    with pytest.raises(PlanContractError, match="before a round"):
        prepared(RiskPlan).summary()


def test_columns_that_follow_from_others_determine_no_model(trial, federation, tmp_path):
    for seed, node in enumerate(NODES):
        _, inputs, _ = samples(seed)
        inputs[:, 2] = inputs[:, 0] - inputs[:, 1]
        table = columns(inputs, y=inputs[:, 0])
        start_working(trial, node, write_columns(tmp_path / f"{node}.csv", **table))

    with pytest.raises(NotSolvableError, match="column 2 of 4 follows from those before it"):
        fitted(federation, LinearPlan, 1)


def step(tmp_path, base, *updates):
    """Return the plan that a Newton step makes of sums, given as (log-likelihood, gradient, information, samples)."""
    base.export_model(tmp_path / "base")
    contributions = []
    for number, sums in enumerate(updates):
        names = ("log_likelihood", "gradient", "information", "samples")
        update = prepared(RiskPlan)
        given = {
            f"sum.{name}": torch.tensor(value, dtype=torch.float64)
            for name, value in zip(names, sums, strict=True)
        }
        update.set_model_params(base.get_model_params() | given)
        update.export_model(tmp_path / f"update-{number}")
        contributions.append(Contribution(f"n{number}", tmp_path / f"update-{number}", 1, 1))
    NewtonStep().aggregate(tmp_path / "base", contributions, tmp_path / "next")
    after = prepared(RiskPlan)
    after.import_model(tmp_path / "next")
    return after


def test_a_step_that_made_the_likelihood_worse_is_halved(tmp_path):
    flat = np.eye(4).tolist()
    first = step(tmp_path, prepared(RiskPlan), (-10.0, [4.0, 0, 0, 0], flat, 5.0))

    second = step(tmp_path, first, (-11.0, [-9.0, 0, 0, 0], flat, 5.0))

    assert [4.0, 0, 0, 0] == first.coefficients().tolist()
    assert [2.0, 0, 0, 0] == second.coefficients().tolist()
    assert (
        first.get_model_params()["sum.gradient"].tolist()
        == second.get_model_params()["sum.gradient"].tolist()
    )


def test_a_column_that_is_zero_everywhere_is_named(tmp_path):
    flat = np.diag([1.0, 0.0, 1.0, 1.0]).tolist()

    with pytest.raises(NotSolvableError, match="column 1 of 4 tells nothing"):
        step(tmp_path, prepared(RiskPlan), (-10.0, [4.0, 0, 0, 0], flat, 5.0))


@pytest.mark.parametrize("aggregator", [NewtonStep(), SumStatistics()])
def test_a_model_without_statistics_is_refused(tmp_path, aggregator):
    save_tensors(tmp_path / "base", {"weight": torch.zeros(2)})

    with pytest.raises(NotSolvableError, match="the model has none"):
        aggregator.aggregate(
            tmp_path / "base", [Contribution("n", tmp_path / "base", 1, 1)], tmp_path / "next"
        )


def test_a_likelihood_of_other_samples_is_not_compared(tmp_path):
    flat = np.eye(4).tolist()
    first = step(tmp_path, prepared(RiskPlan), (-10.0, [4.0, 0, 0, 0], flat, 5.0))

    second = step(tmp_path, first, (-11.0, [-1.0, 0, 0, 0], flat, 6.0))

    assert [3.0, 0, 0, 0] == second.coefficients().tolist()


def test_students_t_is_that_of_scipy():
    for freedom in (1, 4, 37, 10_000):
        for value in (0.0, 0.3, 1.96, 12.0):
            assert t_tails(value, freedom) == pytest.approx(2 * stats.t.sf(value, freedom), rel=1e-9)
        assert t_quantile(0.95, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)
    assert [0.0, 1.0] == [incomplete_beta(0.0, 2, 3), incomplete_beta(1.0, 2, 3)]


def test_concordance_counts_pairs_of_which_the_order_is_known():
    times, events = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([True, True, False, True])

    assert 1.0 == concordance(torch.tensor([4.0, 3.0, 2.0, 1.0]), times, events)
    assert 0.0 == concordance(torch.tensor([1.0, 2.0, 3.0, 4.0]), times, events)
    assert 0.5 == concordance(torch.zeros(4), times, events)
    assert concordance(torch.zeros(1), times[:1], events[:1]) is None
