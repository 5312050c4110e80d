"""No unsound update gets near the model, and each refusal says why."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from common.errors import UpdateRefusedError
from common.ids import derived_uuid
from common.messages import ClassStatistics, PayloadManifest, TaskTimings, TrainReply, Validation
from common.payload.blocks import BlockFile
from common.payload.encodings.choice import Encoding
from common.payload.encodings.encoder import encode_update
from common.payload.tensors import save_tensors
from common.training_args import TrainingArgs
from researcher.gate import Gate
from tests.support.fake_node import dataset

MODEL = {"w": torch.zeros(2, 3), "b": torch.zeros(2), "n": torch.tensor(4)}
DATA = dataset("north", samples=100)
BASE, PLAN = "a" * 64, "b" * 64
SOURCE = 'def testing_step(self, data, target):\n    return {"dice": 1.0}\n'


def layout(path):
    with BlockFile(path) as file:
        return file.layout


def make_gate(path, encoding="raw", **arguments):
    return Gate(BASE, layout(path), path, Encoding.parse(encoding), PLAN, SOURCE, TrainingArgs(**arguments))


@pytest.fixture
def gate(tmp_path):
    save_tensors(tmp_path / "base", MODEL)
    return make_gate(tmp_path / "base", epochs=2)


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
        (MODEL | {"extra": torch.zeros(1)}, "it has tensors that the model does not have"),
        (MODEL | {"w": torch.zeros(3, 2)}, r"w does not have the shape \(2, 3\)"),
        (MODEL | {"w": torch.zeros(2, 3).double()}, "w does not have the dtype F32"),
        (MODEL | {"b": torch.tensor([1.0, math.nan])}, "b holds a number that is not finite"),
        (MODEL | {"b": torch.tensor([1.0, -math.inf])}, "b holds a number that is not finite"),
        (MODEL | {"b": torch.tensor([1.0, 1e13])}, r"its change is larger than the norm 1e\+12"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_by_name(gate, tmp_path, tensors, reason):
    save_tensors(tmp_path / "update", tensors)

    with pytest.raises(UpdateRefusedError, match=f"north in round 3 was refused: {reason}"):
        gate.check_tensors(reply(), tmp_path / "update")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_that_are_not_finite_are_found_in_every_dtype(tmp_path, dtype):
    save_tensors(tmp_path / "base", {"w": torch.zeros(4, dtype=dtype)})
    gate = make_gate(tmp_path / "base", epochs=1)
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
    ("requires", "told", "reason"),
    [
        (("steps",), {"steps": 0}, "it tells no steps"),
        (("steps",), {"steps": 161}, "it claims 161 steps with 160 samples"),
        (("lr_sum",), {"lr_sum": None}, "it tells no lr_sum"),
        (("lr_sum",), {"lr_sum": -0.1}, "it tells no lr_sum"),
        (("lr_sum",), {"lr_sum": 1e-30}, "it tells no lr_sum"),
    ],
)
def test_what_the_aggregator_needs_must_be_told(gate, requires, told, reason):
    needy = replace(gate, requires=requires)

    needy.check_reply(reply(steps=160, lr_sum=0.1), DATA)
    with pytest.raises(UpdateRefusedError, match=reason):
        needy.check_reply(reply(**told), DATA)


@pytest.mark.parametrize(
    ("arguments", "train", "admitted"),
    [
        ({}, True, False),
        ({"finetune_updates": 3}, True, False),
        ({"finetune_updates": 3, "test_on_global_updates": True}, True, True),
        ({"finetune_updates": 3}, False, True),
        ({"ditto_lambda": 0.1}, True, False),
        ({"ditto_lambda": 0.1, "test_on_local_updates": True}, True, True),
    ],
)
def test_a_personal_model_is_validated_when_that_was_asked_for(gate, arguments, train, admitted):
    asked = replace(gate, train=train, arguments=TrainingArgs(epochs=2, **arguments))
    personal = Validation(on="personal", samples=20, metrics={"loss": 1.0})
    told = reply(validations=(personal,), **({} if train else {"update": None, "samples_seen": 0}))

    if admitted:
        asked.check_reply(told, DATA)
    else:
        with pytest.raises(UpdateRefusedError, match="validation of the personal model"):
            asked.check_reply(told, DATA)


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
    bounded = replace(gate, arguments=TrainingArgs(**arguments))

    bounded.check_reply(reply(samples_seen=most), DATA)
    with pytest.raises(UpdateRefusedError, match=f"where {most} are possible"):
        bounded.check_reply(reply(samples_seen=most + 1), DATA)


def test_a_test_set_of_its_own_is_not_counted_among_the_samples_of_the_data_set(gate):
    apart = replace(gate, arguments=TrainingArgs(epochs=2, test_tags=("held-back",)))

    apart.check_reply(reply(samples_train=100, samples_test=1000), DATA)
    with pytest.raises(UpdateRefusedError, match="claims 101 samples"):
        apart.check_reply(reply(samples_train=101, samples_test=0), DATA)


def test_a_validation_must_not_bring_tensors(gate):
    validation = replace(gate, train=False)

    validation.check_reply(reply(update=None, samples_seen=0), DATA)
    with pytest.raises(UpdateRefusedError, match="tensors that nobody asked for"):
        validation.check_reply(reply(), DATA)


LARGE = {"w": torch.linspace(-1, 1, 5000), "n": torch.tensor(4)}


@pytest.fixture
def encoded(tmp_path):
    """A gate for int8 updates of a larger model, and how to write one."""
    save_tensors(tmp_path / "base", LARGE)
    made = make_gate(tmp_path / "base", "int8", epochs=2)

    def update(encoding="int8"):
        save_tensors(tmp_path / "trained", {name: value + 1 for name, value in LARGE.items()})
        encode_update(
            tmp_path / "trained", tmp_path / "update", Encoding.parse(encoding), base=tmp_path / "base"
        )
        return tmp_path / "update"

    return made, update


def forged(path, **parts):
    """Write an int8 update with other parts than an encoder writes."""
    honest = {"w.q8": torch.zeros(5000, dtype=torch.int8), "w.scale": torch.tensor(0.5), "n": torch.tensor(4)}
    note = {"encoding": "int8", "of": "change", "dtypes": {"w": "F32"}}
    tensors = {name: value for name, value in (honest | parts).items() if value is not None}
    save_tensors(path, tensors, {"warren.encoding": json.dumps(note)})
    return path


def test_an_encoded_update_is_judged_by_what_it_stands_for(encoded):
    gate, update = encoded
    manifest = PayloadManifest(sha256="c" * 64, size_bytes=200, encoding="int8", inline=True)

    gate.check_reply(reply(update=manifest), DATA)
    gate.check_tensors(reply(), update())
    gate.check_tensors(reply(), update("raw"))  # a node that cannot encode a tensor well sends it as it is


def test_an_update_that_is_encoded_otherwise_than_asked_is_refused(encoded):
    gate, update = encoded
    manifest = PayloadManifest(sha256="c" * 64, size_bytes=200, encoding="topk:0.1", inline=True)

    with pytest.raises(UpdateRefusedError, match=r"encoded as topk:0\.1 instead of int8"):
        gate.check_reply(reply(update=manifest), DATA)
    with pytest.raises(UpdateRefusedError, match="tensors are encoded as bf16 instead of int8"):
        gate.check_tensors(reply(), update("bf16"))
    with pytest.raises(UpdateRefusedError, match="it lacks w"):
        replace(gate, encoding=Encoding()).check_tensors(reply(), update())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"w.q8": torch.zeros(4999, dtype=torch.int8)}, "no part 'w.q8'"),
        ({"w.scale": torch.tensor(-1.0)}, "has the scale -1"),
        ({"w.scale": torch.tensor(math.nan)}, "has the scale nan"),
        (
            {"w.scale": torch.tensor(3e38), "w.q8": torch.full((5000,), 127, dtype=torch.int8)},
            "w holds a number that is not finite",
        ),
        ({"w": torch.zeros(5000)}, "there encoded and not encoded"),
        ({"n": None}, "it lacks n"),
        ({"m": torch.tensor(4)}, "it has tensors that the model does not have"),
    ],
)
def test_an_update_that_lies_about_its_encoding_is_refused(encoded, tmp_path, parts, reason):
    gate, _ = encoded

    with pytest.raises(UpdateRefusedError, match=reason):
        gate.check_tensors(reply(), forged(tmp_path / "forged", **parts))


def test_an_update_that_would_become_larger_than_the_model_is_refused_before_it_is_decompressed(gate):
    packed = PayloadManifest(
        sha256="c" * 64, size_bytes=200, encoding="raw+zstd", decoded_bytes=10**9, inline=True
    )

    with pytest.raises(UpdateRefusedError, match="it has 1000000000 bytes"):
        replace(gate, encoding=Encoding(zstd=True)).check_reply(reply(update=packed), DATA)


def validation(on="global", samples=20, metrics=None, cases=None):
    counts = cases and ClassStatistics(confusion=((cases, 0), (0, 0)), probabilities=None)
    return Validation(on=on, samples=samples, metrics=metrics or {"ACCURACY": 0.5}, statistics=counts)


def test_validations_that_were_asked_for_pass(tmp_path, gate):
    asking = make_gate(tmp_path / "base", epochs=2, test_on_global_updates=True, test_on_local_updates=True)

    own = validation("local", metrics={"dice": 0.5, "loss": 0.1, "C_INDEX": 0.7})
    asking.check_reply(reply(validations=(validation("global", cases=20), own)), DATA)


@pytest.mark.parametrize(
    ("validations", "reason"),
    [
        ((validation("local"),), "a validation of the local model, which nobody asked for"),
        ((validation(), validation()), "tells of one validation twice"),
        ((validation(samples=21),), "validated on 21 samples of a test part of 20"),
        ((validation(cases=19),), "its counts are not of the 20 samples"),
        ((validation(metrics={"dice of patient Smith": 1.0}),), "a metric whose name is not in the plan"),
        ((validation(metrics={str(number): 1.0 for number in range(101)}),), "tells 101 metrics"),
    ],
)
def test_metrics_that_were_not_declared_are_refused(tmp_path, gate, validations, reason):
    asking = make_gate(tmp_path / "base", epochs=2, test_on_global_updates=True)

    with pytest.raises(UpdateRefusedError, match=reason):
        asking.check_reply(reply(validations=validations), DATA)
