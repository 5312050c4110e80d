"""An experiment whose global model is stepped by an optimizer: its numbers, and that nothing of them depends on what happens."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import InvalidSettingsError, RoundNotKeptError
from common.optimizers import AdamModule, MomentumModule, Optimizer
from researcher import Experiment
from researcher.monitoring import RoundEnded, UpdateArrived
from tests.support.experiments import Death, crash, dying, make
from tests.support.fake_node import Place, Trial, always, shifted
from tests.support.holdings import tensors_of

ADAM = Optimizer(
    0.1, modules=[AdamModule(beta_1=0.9, beta_2=0.99, eps=1e-3, bias_correction=False, initial=1e-6)]
)
CHANGE = 0.3 * 0.3 + 0.7 * 0.7
"""What the mean of the updates changes in each number, each round."""


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path / "nodes")
    trial.start("north", always(shifted(0.3, samples_seen=3, samples_train=3)))
    trial.start("south", always(shifted(0.7, samples_seen=7, samples_train=7)))
    yield trial
    trial.close()


def walk(rounds):
    """Return how far FedAdam has gone after so many rounds."""
    far, mean, square = 0.0, 0.0, 1e-6
    for _ in range(rounds):
        mean, square = 0.9 * mean + 0.1 * CHANGE, 0.99 * square + 0.01 * CHANGE**2
        far += 0.1 * mean / (np.sqrt(square) + 1e-3)
    return far


def gone(experiment, tmp_path, round_=None):
    """Return by how much each number of the model differs from the first model."""
    initial = tensors_of(experiment.folder, experiment.history()[0].base)
    Experiment.load(experiment.folder, round=round_).export(tmp_path / "now")
    now = load_file(tmp_path / "now")
    return np.concatenate([(now[name] - initial[name]).ravel() for name in initial])


def digests(experiment):
    return [record.model for record in experiment.history()]


def test_rounds_walk_by_its_formula(federation, tmp_path):
    experiment = make(federation, agg_optimizer=ADAM)
    experiment.run(4)

    for round_ in (1, 2, 3, 4):
        np.testing.assert_allclose(gone(experiment, tmp_path, round_), walk(round_), rtol=1e-4)
    assert "AdamModule" == experiment.history()[0].agg_optimizer["modules"][0]["name"]
    assert ADAM == experiment.agg_optimizer()


@pytest.mark.parametrize("moment", [UpdateArrived, RoundEnded])
def test_a_death_in_any_round_does_not_show_in_the_models(federation, trial, tmp_path, moment):
    calm = make(federation, agg_optimizer=ADAM)
    calm.run(4)
    calm.close()
    struck = make(federation, agg_optimizer=ADAM)
    dying(struck, moment, 3)
    with pytest.raises(Death):
        struck.run(4)
    crash(federation)

    with Place(trial, tmp_path / "home") as again:
        resumed = Experiment.resume(struck.folder, federation=again, observers=())
        resumed.run(4 - resumed.round_current())

        assert digests(calm) == [record.model for record in resumed.history() if record.model]


def test_every_round_can_be_replayed_and_another_run_of_it_changes_nothing(federation):
    experiment = make(federation, agg_optimizer=ADAM)
    experiment.run(3)
    kept = sorted((experiment.folder / "optimizer").iterdir())
    before = [path.read_bytes() for path in kept]

    for round_ in (3, 1, 2):
        assert Experiment.load(experiment.folder, round=round_).replay().same
        assert not Experiment.load(experiment.folder, round=round_).replay(without=["south"]).same
    assert 3 == len(kept)
    assert before == [path.read_bytes() for path in kept]


def test_a_branch_goes_on_with_what_was_remembered(federation, tmp_path):
    experiment = make(federation, agg_optimizer=ADAM)
    experiment.run(4)
    branch = Experiment.load(experiment.folder, round=2, federation=federation).branch("branch")
    branch.run(2)

    assert digests(experiment)[2:] == digests(branch)
    branch.close()


def test_a_retention_bounds_what_is_remembered_too(federation):
    experiment = make(federation, agg_optimizer=ADAM, retention={"models": 2})
    experiment.run(5)

    assert ["round-000004.safetensors", "round-000005.safetensors"] == sorted(
        path.name for path in (experiment.folder / "optimizer").iterdir()
    )
    assert 1 == experiment.run(1)


def test_what_was_removed_by_hand_is_missed_and_not_forgotten_in_silence(federation):
    experiment = make(federation, agg_optimizer=ADAM)
    experiment.run(2)
    shutil.rmtree(experiment.folder / "optimizer")

    with pytest.raises(RoundNotKeptError, match="what its optimizer remembered was removed"):
        experiment.run(1)


def test_other_modules_begin_anew_and_none_takes_the_mean_as_it_is(federation, tmp_path):
    experiment = make(federation, agg_optimizer=ADAM)
    experiment.run(1)
    experiment.set_agg_optimizer(Optimizer(1.0, modules=[MomentumModule(0.5)]))
    experiment.run(2)
    experiment.set_agg_optimizer(None)
    experiment.run(1)

    far = walk(1) + CHANGE + 1.5 * CHANGE + CHANGE
    np.testing.assert_allclose(gone(experiment, tmp_path), far, rtol=1e-4)


def test_an_optimizer_that_is_none_is_refused(federation):
    with pytest.raises(InvalidSettingsError, match="agg_optimizer"):
        make(federation, agg_optimizer="adam")
