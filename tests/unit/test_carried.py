"""What an algorithm sends beside a model arrives as it is, in every encoding, and is never taken for the model."""

import pytest
import torch

from common.payload.carried import combine, is_carried, model_alone
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import decompress_file
from common.payload.encodings.encoder import encode_update
from common.payload.header import BUFFERS
from common.payload.soundness import unsound
from common.payload.tensors import load_tensors, open_tensors, save_tensors
from researcher.parcels import Parcels
from tests.support.holdings import Files

DRAW = torch.Generator().manual_seed(5)
MODEL = {"w": torch.randn(300, 300, generator=DRAW), "n": torch.tensor(4)}
CARRIED = {"w": torch.randn(300, 300, generator=DRAW) / 3}


@pytest.fixture
def files(tmp_path):
    save_tensors(tmp_path / "model", MODEL, {BUFFERS: '["n"]'})
    save_tensors(tmp_path / "carried", CARRIED)
    combine(tmp_path / "model", tmp_path / "carried", tmp_path / "payload")
    return tmp_path


def test_a_payload_holds_both_and_gives_back_the_model_byte_for_byte(files):
    payload = load_tensors(files / "payload")

    assert MODEL.keys() == {name for name in payload if not is_carried(name)}
    assert 1 == sum(torch.equal(CARRIED["w"], payload[name]) for name in payload if is_carried(name))
    alone = model_alone(files / "payload", files / "alone")
    assert (files / "model").read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("encoding", ["raw", "fp16", "int8+zstd", "bf16+zstd"])
def test_what_is_carried_is_exact_in_every_encoding(files, encoding):
    store = Files(files / "payloads")
    parcels = Parcels(store, files / "parcels")
    model = store.add(files / "model")

    manifest = parcels.pack(model, Encoding.parse(encoding), carried=files / "carried")

    path = parcels.packed(manifest)
    if manifest.decoded_bytes is not None:
        decompress_file(path, files / "unpacked", size_bytes=manifest.decoded_bytes)
        path = files / "unpacked"
    with open_tensors(path) as sent:
        assert [True] == [torch.equal(CARRIED["w"], sent[name]) for name in sent if is_carried(name)]
    assert model != manifest.sha256
    assert {manifest.sha256} == {one.name for one in (files / "parcels").iterdir()}


def test_an_update_is_held_against_the_model_and_not_against_what_came_beside_it(files):
    changed = {name: value + 1 for name, value in MODEL.items()}
    save_tensors(files / "update", changed)
    save_tensors(files / "more", load_tensors(files / "payload"))

    def said(update):
        return unsound(files / update, files / "payload", Encoding(), norm_limit=1e6)

    assert said("update") is None
    assert "it has tensors that the model does not have" == said("more")


@pytest.mark.parametrize("encoding", ["fp16", "int8", "topk:0.1"])
def test_an_encoded_update_is_held_against_the_model_alone_too(files, encoding):
    chosen, alone = Encoding.parse(encoding), files / "model"
    save_tensors(files / "trained", {name: value + 1 for name, value in MODEL.items()})
    encode_update(files / "trained", files / "update", chosen, base=alone)

    assert unsound(files / "update", files / "payload", chosen, norm_limit=1e6) is None
