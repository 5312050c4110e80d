"""What a worker wrote leaves its folder only if it is an update of the model."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace

import pytest
import torch

from common.payload.tensors import save_tensors
from node.worker.folder import RunFolder
from node.worker.harvest import Bounds, harvest
from node.worker.protocol import Made
from tests.support.tasks import Desk, done

MODEL = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}


@pytest.fixture(params=["bytes", "file"])
def made(tmp_path, request):
    """Return a function that lets a worker hand over tensors, or bytes, from memory or as a file, and the agent take them."""
    folder = RunFolder(tmp_path / "run")
    folder.make()
    desk = Desk(tmp_path)
    save_tensors(desk.model, MODEL)

    def made(tensors, norm=1e12, size=10**6, **changes):
        update = folder.scratch / "update.safetensors"
        if isinstance(tensors, bytes):
            update.write_bytes(tensors)
        else:
            save_tensors(update, tensors)
        task = desk.task(update_path=str(update), **changes)
        handed = update
        if request.param == "bytes":
            handed, task = update.read_bytes(), replace(task, model=desk.model.read_bytes())
            update.write_bytes(b"another one")
        return harvest(folder, task, Made(done(task.task.task_id), handed), Bounds(size, norm))

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


def test_an_update_larger_than_the_node_allows_stays_here(made):
    error = made({name: value + 1 for name, value in MODEL.items()}, size=100).error

    assert ("WRN-606", "exceeds its limit of 100") == (error.code, error.public_text[-24:])


def test_an_update_that_nobody_asked_for_stays_here(made):
    assert "WRN-608" == made(MODEL, train=False).error.code


def test_an_update_that_is_compressed_or_encoded_is_one_of_the_model_too(made):
    pytest.importorskip("zstandard")
    error = made(MODEL, model_encoding="raw+zstd", model_decoded_bytes=100).error

    assert ("WRN-610", "zstd" in str(error)) == (error.code, True)
    assert made(MODEL, encoding="int8").error is None


def test_a_worker_that_hands_over_no_update_leaves_none(tmp_path):
    folder, desk = RunFolder(tmp_path / "run"), Desk(tmp_path)
    folder.make()
    save_tensors(desk.model, MODEL)
    task = desk.task()

    assert "WRN-608" == harvest(folder, task, Made(done(task.task.task_id)), Bounds(10**6, 1e12)).error.code


def test_a_path_that_a_worker_makes_up_is_not_followed(tmp_path):
    folder, desk = RunFolder(tmp_path / "run"), Desk(tmp_path)
    folder.make()
    save_tensors(desk.model, MODEL)
    task = desk.task(update_path=str(folder.scratch / "update"), state_path=str(folder.scratch / "state"))
    (folder.scratch / "state").write_bytes(b"its own")
    save_tensors(folder.scratch / "update", MODEL)

    taken = harvest(folder, task, Made(done(task.task.task_id), desk.model, desk.table), Bounds(10**6, 1e12))

    assert (None, b"its own") == (taken.error, taken.state.content)
    assert desk.model.exists()
    assert desk.table.exists()


def test_bytes_that_are_not_compressed_as_agreed_stay_here(made):
    pytest.importorskip("zstandard")
    assert "WRN-610" == made(MODEL, encoding="raw+zstd").error.code
