"""The demo's plan and settings reach what they promise, computed without any network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.settings import load_toml
from common.training_args import TrainingArgs
from common.training_plans.source import load_plan, plan_hash, plan_source
from common.training_plans.training import train
from deploy.demo.baselines import Linear, Site, evaluate, pooled_optimum
from deploy.demo.hospitals import FEATURES, hospitals, write_csv
from deploy.demo.plan import INPUTS, HeartPlan
from deploy.demo.run import TAGS, TRAINING_ARGS
from researcher.experiment_file import ExperimentFile, import_plan

ARGS = TrainingArgs.of(TRAINING_ARGS)
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PLAN_FILE = Path(__file__).parents[2] / "deploy" / "demo" / "plan.py"


def prepared(kind=HeartPlan):
    plan = kind()
    plan.prepare(model_args={}, training_args=ARGS)
    return plan


def parts(plan, path):
    manager = plan.training_data()
    manager.bind(path, {})
    return manager.split(test_ratio=ARGS.test_ratio, seed=0)


@pytest.fixture
def tables(tmp_path):
    for name, hospital in hospitals().items():
        write_csv(hospital, tmp_path / f"{name}.csv")
    return {name: tmp_path / f"{name}.csv" for name in hospitals()}


def test_the_plan_takes_the_columns_that_the_hospitals_have():
    assert INPUTS == FEATURES


def test_the_plan_travels_as_text_that_needs_nothing_of_the_demo():
    source = plan_source(HeartPlan)
    assert "deploy" not in source
    assert load_plan(source, "HeartPlan", plan_hash(source)).__name__ == "HeartPlan"


def test_each_hospital_standardises_as_the_baselines_do(tables):
    plan = prepared()
    for name, path in tables.items():
        site, both = Site.of(hospitals()[name]), parts(plan, path)
        for loader, features, labels in (
            (both.train, site.train, site.train_labels),
            (both.test, site.test, site.test_labels),
        ):
            ((data, target),) = loader
            np.testing.assert_allclose(data.numpy(), features, rtol=1e-5, atol=1e-6)
            assert target.tolist() == labels.tolist()


def test_fifteen_rounds_of_the_demo_land_at_the_pooled_optimum(tables):
    plan = prepared()
    loaders = {name: parts(plan, path).train for name, path in tables.items()}
    total = sum(loader.samples for loader in loaders.values())
    model = {name: value.double().clone() for name, value in plan.get_model_params().items()}
    for _ in range(15):
        mean = {name: torch.zeros_like(value) for name, value in model.items()}
        for loader in loaders.values():
            plan.set_model_params({name: value.float() for name, value in model.items()})
            train(plan, loader, ARGS, lambda point: None)
            for name, value in plan.get_model_params().items():
                mean[name] += value.double() * loader.samples / total
        model = mean
    sites = {name: Site.of(hospital) for name, hospital in hospitals().items()}
    scores = evaluate(Linear(model["weight"].numpy().reshape(-1), model["bias"].item()), sites)
    optimum = evaluate(pooled_optimum(sites), sites)
    assert scores.train_log_loss - optimum.train_log_loss == pytest.approx(0.0010, abs=0.0005)
    assert scores.accuracy_mean == pytest.approx(optimum.accuracy_mean, abs=0.005)
    assert scores.auc_pooled == pytest.approx(optimum.auc_pooled, abs=0.01)


def test_testing_reports_accuracy_and_loss(tables):
    plan = prepared()
    ((data, target),) = parts(plan, tables["va"]).test
    metrics = plan.testing_step(data, target)
    assert metrics["accuracy"] == pytest.approx((target == 0).float().mean().item())
    assert metrics["loss"] == pytest.approx(np.log(2), abs=1e-6)


def test_the_example_for_researchers_is_the_experiment_of_the_demo():
    file = load_toml(EXAMPLES / "heart.toml", ExperimentFile)
    plan = import_plan(EXAMPLES / file.plan.file, file.plan.class_name)
    assert plan_hash(plan_source(plan)) == plan_hash(plan_source(HeartPlan))
    assert PLAN_FILE.read_text() == (EXAMPLES / "heart_plan.py").read_text()
    assert TrainingArgs.of(file.training_args) == ARGS
    assert (file.tags, file.rounds) == (TAGS, 15)
