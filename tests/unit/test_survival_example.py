"""The survival example finds what its data were made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from researcher.experiment_file import load_experiment
from tests.support.fake_node import Place, Trial, dataset
from tests.support.working_node import start_working, write_columns

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "survival.toml"
NODES = ("east", "west")
TRUTH = {"age": 0.03, "stage": 0.6, "treated": -0.8}


def patients(seed, rows=300):
    rng = np.random.default_rng(seed)
    table = {
        "age": rng.normal(60, 10, rows).round(1),
        "stage": rng.integers(1, 4, rows),
        "treated": rng.integers(0, 2, rows),
    }
    risk = sum(TRUTH[name] * (values - values.mean()) for name, values in table.items())
    times = rng.exponential(
        20 * (1 + 4 * seed) * np.exp(-risk)
    )  # one hospital sees its patients five times as long
    ends = rng.uniform(5, 200, rows)
    return table | {"time": np.minimum(times, ends), "event": (times <= ends).astype(int)}


@pytest.fixture
def federation(tmp_path):
    trial = Trial(tmp_path / "nodes", NODES)
    for seed, node in enumerate(NODES):
        table = write_columns(tmp_path / f"{node}.csv", **patients(seed))
        start_working(trial, node, table, dataset(node, tags=("survival",), samples=300))
    with Place(trial, tmp_path / "home") as federation:
        federation.settle()
        yield federation
    trial.close()


def test_the_survival_example_finds_what_its_data_were_made_with(federation):
    with load_experiment(EXAMPLE, federation, observers=()) as experiment:
        experiment.run()
        summary = experiment.training_plan().summary()

    assert summary.samples == 600
    assert summary.last_step < 1e-6
    for name, truth in TRUTH.items():
        assert abs(summary[name].estimate - truth) < 3 * summary[name].std_error
    assert summary["treated"].p_value < 0.001
    assert summary["treated"].ratio < 0.7
