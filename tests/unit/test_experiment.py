"""What an experiment promises, against scripted nodes over the in-memory broker."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from researcher import Experiment, Federation
from tests.support.fake_node import Trial, always, shifted
from tests.support.plans import TinyPlan

ARGS = {"num_updates": 1, "random_seed": 7}


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path / "nodes")
    yield trial
    trial.close()


@pytest.fixture
def federation(trial, tmp_path):
    with Federation(trial.mailbox("lab"), tmp_path / "home") as federation:
        yield federation


def make(federation, **changes):
    settings = {
        "tags": ["heart"],
        "training_plan_class": TinyPlan,
        "training_args": ARGS,
        "model_args": {"inputs": 3},
        "federation": federation,
        "observers": (),
    }
    return Experiment(**(settings | changes))


def test_rounds_make_the_weighted_mean_of_the_updates(trial, federation, tmp_path):
    trial.start("north", always(shifted(1.0, samples_seen=10, samples_train=10)))
    trial.start("south", always(shifted(4.0, samples_seen=20, samples_train=20)))
    experiment = make(federation, round_limit=2)

    assert 2 == experiment.run()

    experiment.training_plan().export_model(tmp_path / "model.safetensors")
    first = TinyPlan()
    from common.training_args import TrainingArgs

    first.prepare(model_args={"inputs": 3}, training_args=TrainingArgs.of(ARGS))
    trained = load_file(tmp_path / "model.safetensors")
    for name, value in first.get_model_params().items():
        np.testing.assert_allclose(value.numpy() + 6.0, trained[name], rtol=1e-6)
    experiment.close()
