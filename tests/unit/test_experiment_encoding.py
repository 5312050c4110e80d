"""What an experiment promises about encodings, against scripted nodes over the in-memory broker."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from common.errors import InvalidSettingsError, RoundFailedError
from common.messages import TrainRequest
from researcher import Experiment, MinimumStrategy
from researcher.monitoring import UpdateArrived
from tests.support.fake_node import Failure, Place, Silence, Update, always, at_rounds, shifted
from tests.support.holdings import data_of, tensors_of
from tests.support.tiny_plan import TinyPlan

INPUTS = 2000


def make(federation, **changes):
    federation.settle()
    settings = {
        "tags": ["heart"],
        "training_plan_class": TinyPlan,
        "training_args": {"num_updates": 1, "random_seed": 7},
        "model_args": {"inputs": INPUTS},
        "federation": federation,
        "observers": (),
    }
    return Experiment(**(settings | changes))


@pytest.mark.parametrize("encoding", ["fp8", "topk", "topk:2", "int8+gzip", None])
def test_an_unknown_encoding_is_refused_at_once_and_the_choices_are_named(federation, encoding):
    with pytest.raises(
        InvalidSettingsError, match=r"encoding: .* is not raw, fp16, bf16, int8 or, .*topk:0\.01"
    ):
        make(federation, encoding=encoding)


def test_the_encoding_reaches_the_nodes_and_can_be_changed_between_rounds(trial, federation):
    node = trial.start("north")
    experiment = make(federation, encoding="int8")

    experiment.run_once()
    experiment.set_encoding("topk:0.10")
    experiment.run_once()
    with pytest.raises(InvalidSettingsError):
        experiment.set_encoding("int4")

    assert ["int8", "topk:0.1"] == [request.encoding for request in node.of(TrainRequest)]
    assert ["int8", "topk:0.1"] == [record.encoding for record in experiment.history()]
    assert "topk:0.1" == experiment.encoding() == experiment.info()["encoding"]


def test_a_model_is_sent_as_small_as_its_encoding_makes_it_and_kept_as_it_is(trial, federation):
    trial.start("north", always(Failure()))  # it cannot read bf16
    experiment = make(federation, encoding="bf16")

    with pytest.raises(RoundFailedError):
        experiment.run_once()

    (record,) = experiment.history()
    kept = data_of(experiment.folder, record.base)
    assert "bf16" == record.sent.encoding
    assert record.base != record.sent.sha256
    assert 1.8 * record.sent.size_bytes < len(kept)
    assert not (experiment.folder / "parcels").exists()


def test_a_resumed_experiment_keeps_its_encoding(trial, federation):
    trial.start("north")
    with make(federation, encoding="int8", round_limit=1) as experiment:
        experiment.run()

    resumed = Experiment.resume(experiment.folder, federation=federation, observers=())

    assert "int8" == resumed.encoding()


def test_a_round_goes_on_with_the_model_and_the_encoding_that_it_began_with(trial, tmp_path):
    trial.start("north", always(shifted(1.0)))
    south = trial.start("south", at_rounds({1: Silence(then=shifted(3.0))}, otherwise=shifted(3.0)))
    federation = Place(trial, tmp_path / "home")

    class Dies:
        def on_event(self, event):
            if isinstance(event, UpdateArrived):
                raise SystemExit

    settings = {"encoding": "fp16", "model_args": {"inputs": 3}, "round_limit": 2}
    experiment = make(federation, observers=(Dies(),), **settings)
    with pytest.raises(SystemExit):
        experiment.run()
    federation.hub.close()
    federation._closed = True
    experiment._dossier.close()
    south.until(TrainRequest)
    south.release()

    with Place(trial, tmp_path / "home") as again:
        resumed = Experiment.resume(experiment.folder, federation=again, observers=())
        resumed.set_encoding("int8")
        assert 2 == resumed.run()
        history = resumed.history()

    assert ["fp16", "int8"] == [record.encoding for record in history]
    assert ["fp16", "raw"] == [record.sent.encoding for record in history]
    first = [request for request in south.of(TrainRequest) if request.round == 1]
    assert {history[0].sent.sha256} == {request.model.sha256 for request in first}
    assert {"accepted"} == {node.outcome for record in history for node in record.nodes.values()}


def int8(scale=0.5, elements=INPUTS, **note):
    """Return the bytes of an int8 update, honest or not."""
    facts = {"encoding": "int8", "of": "change", "dtypes": {"weight": "F32"}} | note
    steps = np.full((1, elements), 2, dtype=np.int8)
    tensors = {
        "weight.q8": steps,
        "weight.scale": np.array(scale, np.float32),
        "bias": np.zeros(1, np.float32),
    }
    return save(tensors, {"warren.encoding": json.dumps(facts)})


def test_an_encoded_update_is_added_to_the_model_that_is_kept(trial, federation, tmp_path):
    trial.start("north", always(Update(raw=int8())))
    experiment = make(federation, encoding="int8")

    experiment.run_once()

    record = experiment.history()[0]
    before, after = (tensors_of(experiment.folder, one) for one in (record.base, record.model))
    np.testing.assert_allclose(before["weight"] + 1.0, after["weight"], rtol=1e-6)
    assert [0.0] == after["bias"].tolist()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Update(encoding="raw"), "encoded as raw instead of int8"),
        (Update(encoding="topk:0.1"), "encoded as topk:0.1 instead of int8"),
        (Update(encoding="int8+zstd", decoded_bytes=10**9), "encoded as int8+zstd instead of int8"),
        (Update(raw=int8(encoding="topk:0.1")), "has no part 'weight.idx'"),
        (Update(raw=int8(encoding="int4")), "its note about the encoding is not valid"),
        (Update(raw=int8(elements=INPUTS - 1)), "has no part 'weight.q8'"),
        (Update(raw=int8(scale=-1.0)), "has the scale -1"),
        (Update(raw=int8(scale=3e38)), "not finite"),
    ],
)
def test_an_update_that_lies_about_its_encoding_is_named_and_the_round_goes_on(
    trial, federation, answer, reason
):
    trial.start("north", always(Update(raw=int8())))
    trial.start("south", always(answer))
    experiment = make(federation, encoding="int8", node_selection_strategy=MinimumStrategy(min_nodes=1))

    assert 1 == experiment.run(1)

    nodes = experiment.history()[0].nodes
    assert ("accepted", "refused") == (nodes["north"].outcome, nodes["south"].outcome)
    assert reason in nodes["south"].reason
