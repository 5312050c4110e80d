"""No unsound update gets near the model, and each refusal says why."""

from __future__ import annotations

import math

import pytest
import torch

from common.errors import UpdateRefusedError
from common.ids import derived_uuid
from common.messages import PayloadManifest, TaskTimings, TrainReply
from common.payload.blocks import BlockFile
from common.payload.tensors import save_tensors
from common.training_args import TrainingArgs
from researcher.gate import Gate
from tests.support.fake_node import dataset

MODEL = {"w": torch.zeros(2, 3), "b": torch.zeros(2), "n": torch.tensor(4)}
DATA = dataset("north", samples=100)
BASE, PLAN = "a" * 64, "b" * 64


def layout(path):
    with BlockFile(path) as file:
        return file.layout


@pytest.fixture
def gate(tmp_path):
    save_tensors(tmp_path / "base", MODEL)
    return Gate(BASE, layout(tmp_path / "base"), PLAN, TrainingArgs(epochs=2))


def reply(**changes):
    fields = {
        "sender": "north",
        "recipients": ("lab",),
        "experiment_id": derived_uuid("experiment"),
        "run_id": derived_uuid("run"),
        "task_id": derived_uuid("task"),
        "round": 3,
        "dataset_id": DATA.dataset_id,
        "plan_hash": PLAN,
        "base": BASE,
        "update": PayloadManifest(sha256="c" * 64, size_bytes=200, inline=True),
        "samples_seen": 160,
        "samples_train": 80,
        "samples_test": 20,
        "losses": (),
        "timings": TaskTimings(received_at=0, waited_s=0, loaded_s=0, trained_s=0, validated_s=0, saved_s=0),
    }
    return TrainReply(**(fields | changes))


def test_a_sound_update_passes(gate, tmp_path):
    save_tensors(tmp_path / "update", {name: value + 1 for name, value in MODEL.items()})

    gate.check_reply(reply(), DATA)
    gate.check_tensors(reply(), tmp_path / "update")


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"w": MODEL["w"], "b": MODEL["b"]}, "it lacks n"),
        (MODEL | {"extra": torch.zeros(1)}, "the model has no extra"),
        (MODEL | {"w": torch.zeros(3, 2)}, r"w has the shape \(3, 2\) instead of \(2, 3\)"),
        (MODEL | {"w": torch.zeros(2, 3).double()}, "w has the dtype F64 instead of F32"),
        (MODEL | {"b": torch.tensor([1.0, math.nan])}, "b holds a number that is not finite"),
        (MODEL | {"b": torch.tensor([1.0, -math.inf])}, "b holds a number that is not finite"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_by_name(gate, tmp_path, tensors, reason):
    save_tensors(tmp_path / "update", tensors)

    with pytest.raises(UpdateRefusedError, match=f"north in round 3 was refused: {reason}"):
        gate.check_tensors(reply(), tmp_path / "update")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_that_are_not_finite_are_found_in_every_dtype(tmp_path, dtype):
    save_tensors(tmp_path / "base", {"w": torch.zeros(4, dtype=dtype)})
    gate = Gate(BASE, layout(tmp_path / "base"), PLAN, TrainingArgs(epochs=1))
    save_tensors(tmp_path / "sound", {"w": torch.tensor([1.0, -2.0, 3e4, 0.0], dtype=dtype)})
    save_tensors(tmp_path / "broken", {"w": torch.tensor([1.0, math.inf, 0.0, 0.0], dtype=dtype)})

    gate.check_tensors(reply(), tmp_path / "sound")
    with pytest.raises(UpdateRefusedError, match="not finite"):
        gate.check_tensors(reply(), tmp_path / "broken")


def test_bytes_that_are_no_tensors_are_refused(gate, tmp_path):
    (tmp_path / "update").write_bytes(b"\xff" * 64)

    with pytest.raises(UpdateRefusedError, match="not valid safetensors"):
        gate.check_tensors(reply(), tmp_path / "update")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"update": None}, "it holds no tensors"),
        ({"base": "d" * 64}, "it started from model dddd"),
        ({"plan_hash": "d" * 64}, "it was made by plan dddd"),
        ({"dataset_id": derived_uuid("other")}, "it was made from data set"),
        ({"samples_train": 90}, "it claims 110 samples of a data set that has 100"),
        ({"samples_seen": 0}, "no sample took part"),
        ({"samples_seen": 161}, "seen 161 samples where 160 are possible"),
        (
            {"update": PayloadManifest(sha256="c" * 64, size_bytes=10**9, inline=False)},
            "it has 1000000000 bytes",
        ),
    ],
)
def test_a_reply_that_cannot_be_true_is_refused(gate, changes, reason):
    with pytest.raises(UpdateRefusedError, match=reason):
        gate.check_reply(reply(**changes), DATA)


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ({"epochs": 3}, 240),
        ({"num_updates": 5}, 400),
        ({"num_updates": 5, "loader_args": {"batch_size": 8}}, 40),
        ({"num_updates": 5, "epochs": 1, "loader_args": {"batch_size": 8}}, 40),
        ({"dry_run": True}, 80),
    ],
)
def test_samples_seen_are_bounded_by_what_was_asked_for(gate, arguments, most):
    bounded = Gate(gate.base, gate.model, gate.plan_hash, TrainingArgs(**arguments))

    bounded.check_reply(reply(samples_seen=most), DATA)
    with pytest.raises(UpdateRefusedError, match=f"where {most} are possible"):
        bounded.check_reply(reply(samples_seen=most + 1), DATA)


def test_a_validation_must_not_bring_tensors(gate):
    validation = Gate(gate.base, gate.model, gate.plan_hash, gate.arguments, train=False)

    validation.check_reply(reply(update=None, samples_seen=0), DATA)
    with pytest.raises(UpdateRefusedError, match="tensors that nobody asked for"):
        validation.check_reply(reply(), DATA)
