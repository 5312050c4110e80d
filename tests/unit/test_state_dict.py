"""A state dict that somebody has is read as tensors, and nothing in it is run."""

import os

import pytest
import torch
from safetensors.torch import load_file

from common.errors import InvalidTensorsError, ModelMismatchError
from tests.support.plans import prepared

save = torch.save  # noqa: TID251 - the files that people bring


class Hostile:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_state_dict_becomes_the_model_and_goes_back(tmp_path):
    source, plan = prepared(random_seed=8), prepared()
    save(source.model().state_dict(), tmp_path / "model.pt")

    plan.import_state_dict(tmp_path / "model.pt")
    plan.export_model(tmp_path / "model.safetensors")

    other = torch.nn.Linear(3, 1)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert other.weight.tolist() == source.model().weight.tolist()


def test_nothing_in_the_file_is_run(tmp_path):
    save({"weight": Hostile(tmp_path / "harm")}, tmp_path / "model.pt")

    with pytest.raises(InvalidTensorsError, match="no state dict of tensors alone"):
        prepared().import_state_dict(tmp_path / "model.pt")

    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [[torch.ones(1)], {"weight": 3}, {1: torch.ones(1)}, torch.ones(2)],
    ids=["list", "int", "key", "tensor"],
)
def test_anything_but_tensors_by_name_is_refused(tmp_path, content):
    save(content, tmp_path / "model.pt")

    with pytest.raises(InvalidTensorsError, match="no state dict of tensors alone"):
        prepared().import_state_dict(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04nothing"], ids=["empty", "text", "torn"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)

    with pytest.raises(InvalidTensorsError):
        prepared().import_state_dict(tmp_path / "model.pt")


def test_a_missing_file_and_another_model_are_told(tmp_path):
    save(torch.nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")

    with pytest.raises(InvalidTensorsError, match="No such file"):
        prepared().import_state_dict(tmp_path / "nothing.pt")
    with pytest.raises(ModelMismatchError, match="weight is F32"):
        prepared().import_state_dict(tmp_path / "model.pt")
