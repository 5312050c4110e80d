"""The imaging example learns to tell images apart, and its validation covers all nodes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from researcher.experiment_file import load_experiment
from researcher.history import mean_loss
from tests.support.fake_node import Place, Trial, dataset
from tests.support.working_node import start_working

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "imaging.toml"
NODES = ("east", "west")
CLASSES = ("normal", "pneumonia")
EACH = 12


def write_images(folder, seed):
    """Write images of noise, of which those of one class have a bright patch somewhere."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            pixels = rng.normal(80, 10, (64, 64))
            if label:
                top, left = rng.integers(0, 40, 2)
                pixels[top : top + 24, left : left + 24] += 120
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def federation(tmp_path):
    trial = Trial(tmp_path / "nodes", NODES)
    for seed, node in enumerate(NODES):
        images = write_images(tmp_path / f"{node}-images", seed)
        described = dataset(node, tags=("radiographs",), samples=EACH * len(CLASSES))
        start_working(trial, node, images, described, data_type="images")
    with Place(trial, tmp_path / "home") as federation:
        federation.settle()
        yield federation
    trial.close()


def test_the_imaging_example_learns_to_tell_images_apart(federation):
    with load_experiment(EXAMPLE, federation, observers=()) as experiment:
        experiment.set_round_limit(6)
        experiment.set_training_args({**experiment.training_args(), "epochs": 4})
        experiment.run()
        losses = [mean_loss(record) for record in experiment.history().training]
        shapes = {
            name: tuple(value.shape) for name, value in experiment.training_plan().get_model_params().items()
        }

    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.5 * losses[0]
    assert (len(CLASSES), 16 * 4 * 4) == shapes["8.weight"]
