"""Tensors written to a file are the same when they are read."""

import hashlib
import mmap

import pytest
import safetensors.torch
import torch

from common.errors import InvalidTensorsError
from common.payload.header import read_header
from common.payload.tensors import DTYPES, load_tensors, open_tensors, save_tensors, write_tensors


def some_tensors():
    generator = torch.Generator().manual_seed(0)
    tensors = {str(dtype): torch.randint(0, 2, (3, 2), generator=generator).to(dtype) for dtype in DTYPES}
    return tensors | {
        "scalar": torch.tensor(2.5),
        "counter": torch.tensor(7),
        "empty": torch.empty(0, 4),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "é.weight": torch.tensor([float("nan"), float("inf"), -0.0]),
    }


def mapped(path):
    with open_tensors(path) as file:
        return dict(file)


@pytest.mark.parametrize("read", [load_tensors, mapped], ids=["all at once", "one by one"])
def test_every_kind_of_tensor_survives_a_file(tmp_path, read):
    path = tmp_path / "model.safetensors"
    tensors = some_tensors()

    save_tensors(path, tensors)
    found = read(path)

    assert found.keys() == tensors.keys()
    for name, expected in tensors.items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0, equal_nan=True)


def test_the_bytes_depend_neither_on_order_nor_on_memory_layout(tmp_path):
    tensors = some_tensors()
    shuffled = {name: tensors[name].contiguous() for name in sorted(tensors, reverse=True)}

    one = save_tensors(tmp_path / "one", tensors, {"b": "2", "a": "1"})
    other = save_tensors(tmp_path / "other", shuffled, {"a": "1", "b": "2"})

    assert one == other
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_the_digest_and_size_are_those_of_the_file(tmp_path):
    path = tmp_path / "model.safetensors"

    saved = save_tensors(path, some_tensors())

    content = path.read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (saved.sha256, saved.size_bytes)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_safetensors_library_reads_our_files_and_we_read_its(tmp_path):
    tensors = {name: tensor.contiguous() for name, tensor in some_tensors().items()}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"

    save_tensors(ours, tensors)
    safetensors.torch.save_file(tensors, theirs)

    for found in (safetensors.torch.load_file(ours), load_tensors(theirs)):
        assert found.keys() == tensors.keys()
        for name, expected in tensors.items():
            torch.testing.assert_close(found[name], expected, rtol=0, atol=0, equal_nan=True)


def test_tensors_that_share_memory_are_each_written_in_full(tmp_path):
    path = tmp_path / "tied.safetensors"
    weight = torch.arange(4.0)

    save_tensors(path, {"encoder": weight, "decoder": weight})

    found = load_tensors(path)
    assert found["encoder"].tolist() == found["decoder"].tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, dtype=torch.complex64), torch.zeros(2, 2).to_sparse()],
    ids=["complex", "sparse"],
)
def test_a_tensor_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, tensor):
    with pytest.raises(InvalidTensorsError, match="cannot be written"):
        save_tensors(tmp_path / "model.safetensors", {"odd": tensor})

    assert list(tmp_path.iterdir()) == []


def test_a_mapped_tensor_outlives_its_file_and_never_changes_it(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"a": torch.ones(5), "b": torch.zeros(2 * mmap.PAGESIZE)})
    before = path.read_bytes()

    with open_tensors(path) as file:
        first, second = file["a"], file["b"]
        first += 1
        again = file["a"]
    path.unlink()

    assert (first.tolist(), again.tolist(), second.sum().item()) == ([2.0] * 5, [1.0] * 5, 0.0)
    save_tensors(path, {"a": again, "b": second})
    assert path.read_bytes() == before


def test_a_byte_that_is_no_bool_is_read_as_true(tmp_path):
    path = tmp_path / "flags.safetensors"
    save_tensors(path, {"flags": torch.tensor([False, True, False])})
    path.write_bytes(path.read_bytes()[:-3] + b"\x02\x00\xff")

    assert load_tensors(path)["flags"].tolist() == [True, False, True]


def test_the_header_tells_names_dtypes_and_shapes_without_the_data(tmp_path):
    path = tmp_path / "model.safetensors"
    saved = save_tensors(path, {"w": torch.zeros(3, 2), "n": torch.tensor(1)}, {"round": "3"})

    index = read_header(path)

    assert {name: (entry.dtype, entry.shape, entry.elements) for name, entry in index.items()} == {
        "n": ("I64", (), 1),
        "w": ("F32", (3, 2), 6),
    }
    assert (index.metadata, index.size_bytes) == ({"round": "3"}, saved.size_bytes)


def test_few_bytes_stay_in_memory_and_are_those_of_the_file(tmp_path):
    tensors = some_tensors()
    size = save_tensors(tmp_path / "saved", tensors).size_bytes

    few = write_tensors(str(tmp_path / "file"), tensors, few_bytes=size)
    assert (tmp_path / "saved").read_bytes() == few
    assert not (tmp_path / "file").exists()
    assert tmp_path / "file" == write_tensors(str(tmp_path / "file"), tensors, few_bytes=size - 1)
    assert few == (tmp_path / "file").read_bytes()


def test_tensors_of_bytes_are_those_of_the_file_and_can_be_written_to(tmp_path):
    save_tensors(tmp_path / "saved", some_tensors())
    content = (tmp_path / "saved").read_bytes()

    with open_tensors(content) as read, open_tensors(tmp_path / "saved") as file:
        assert repr(dict(file)) == repr(dict(read))
        for name in read:
            read[name].zero_()
    assert content == (tmp_path / "saved").read_bytes()


@pytest.mark.parametrize("content", [b"", b"12345678", (1 << 40).to_bytes(8, "little") + b"{}"])
def test_bytes_that_are_no_tensors_are_refused(content):
    with pytest.raises(InvalidTensorsError):
        open_tensors(content)
