"""What a worker wrote leaves its folder only if it is an update of the model."""

from __future__ import annotations

import hashlib
import math
import re

import pytest
import torch

from common.payload.tensors import save_tensors
from node.worker.folder import RunFolder
from node.worker.harvest import Bounds, harvest
from node.worker.protocol import Done
from tests.support.tasks import Desk

MODEL = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}


def done(task):
    """Return the report of a worker."""
    return Done(
        task_id=task.task_id,
        samples_seen=1,
        samples_train=1,
        samples_test=0,
        losses=(),
        validations=(),
        update_sha256=None,
        update_size=None,
        loaded_s=0.0,
        trained_s=0.0,
        validated_s=0.0,
        saved_s=0.0,
    )


@pytest.fixture
def made(tmp_path):
    """Return a function that lets a worker write tensors, or bytes, and the agent take them."""
    folder = RunFolder(tmp_path / "run")
    folder.make()
    desk = Desk(tmp_path)
    save_tensors(desk.model, MODEL)

    def made(tensors, norm=1e12, **changes):
        update = folder.scratch / "update.safetensors"
        if isinstance(tensors, bytes):
            update.write_bytes(tensors)
        else:
            save_tensors(update, tensors)
        task = desk.task(update_path=str(update), **changes)
        return harvest(folder, task, done(task), Bounds(10**6, norm))

    return made


def test_an_update_of_the_model_is_taken(made):
    taken = made({name: value + 1 for name, value in MODEL.items()})

    assert taken.error is None
    assert hashlib.sha256(taken.update.content).hexdigest() == taken.update.digest


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"w": MODEL["w"]}, "it lacks b"),
        (MODEL | {"patients": torch.zeros(1000)}, "tensors that the model does not have"),
        (MODEL | {"b": torch.zeros(2000)}, "the shape"),
        (MODEL | {"b": torch.zeros(2, dtype=torch.float64)}, "the dtype"),
        (MODEL | {"b": torch.tensor([1.0, math.nan])}, "not finite"),
        (MODEL | {"b": torch.tensor([1.0, 1e20])}, "larger than the norm"),
        (b"patients" * 100, "not valid safetensors"),
    ],
)
def test_an_update_that_is_not_one_of_the_model_stays_here(made, tensors, reason):
    error = made(tensors).error

    assert "WRN-610" == error.code
    assert re.search(reason, str(error))
    assert "patients" not in error.public_text


def test_the_policy_bounds_how_far_an_update_goes(made):
    assert made({"w": MODEL["w"] + 1, "b": MODEL["b"]}, norm=2.5).error is None
    assert "WRN-610" == made({"w": MODEL["w"] + 1, "b": MODEL["b"]}, norm=2.4).error.code


def test_bytes_that_are_not_compressed_as_agreed_stay_here(made):
    pytest.importorskip("zstandard")
    assert "WRN-610" == made(MODEL, encoding="raw+zstd").error.code
