"""Encoded payloads are smaller, say what they are, and lose nothing that they do not account for."""

import hashlib
import tracemalloc

import numpy as np
import pytest
import torch

from common.errors import InvalidSettingsError, InvalidTensorsError, MissingExtraError
from common.payload.blocks import BLOCK_ELEMENTS, BlockFile
from common.payload.encodings import compression
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.decoder import DecodedFile, decode_file
from common.payload.encodings.encoder import SMALL_ELEMENTS, encode_model, encode_update
from common.payload.encodings.forms import SPAN
from common.payload.header import read_header
from common.payload.tensors import load_tensors, save_tensors
from tests.support.encodings import Link

LOSSY = ["fp16", "bf16", "int8", "topk:0.01"]
ELEMENTS = 50_000


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def trained(base, seed=1):
    """Return a model after a little training: the floats moved by a hundredth."""
    return {
        name: value + 0.01 * normal(*value.shape, seed=seed).to(value.dtype)
        if value.is_floating_point()
        else value + 1
        for name, value in base.items()
    }


@pytest.mark.parametrize("text", ["raw", "fp16", "bf16", "int8", "topk:0.01", "topk:0.000001", "int8+zstd"])
def test_an_encoding_reads_as_it_is_written(text):
    assert text == str(Encoding.parse(text))


@pytest.mark.parametrize(
    "text",
    ["", "fp8", "topk", "topk:1", "topk:0.0", "topk:1e-3", "int8:0.1", "topk:0.0000001", "int8 ", "int8\n"],
)
def test_an_unknown_encoding_is_refused(text):
    with pytest.raises(InvalidSettingsError, match="WRN-901"):
        Encoding.parse(text)


@pytest.mark.parametrize(
    ("name", "fraction"), [("topk", None), ("topk", 1 / 3), ("topk", 0.0), ("int8", 0.1), ("q", None)]
)
def test_an_encoding_that_could_not_be_written_down_is_refused(name, fraction):
    with pytest.raises(InvalidSettingsError):
        Encoding(name, fraction)


@pytest.mark.parametrize(
    ("encoding", "least"),
    [("raw", 1), ("fp16", 1.99), ("bf16", 1.99), ("int8", 3.9), ("topk:0.01", 95), ("topk:0.1", 9.8)],
)
def test_a_model_of_a_million_parameters_shrinks_as_promised(tmp_path, encoding, least):
    base = {"weight": normal(1024, 1024), "bias": normal(64)}
    link = Link(tmp_path, encoding)

    link.send(trained(base), base)

    assert (tmp_path / "trained").stat().st_size / link.sent_bytes >= least


def test_raw_changes_not_one_byte(tmp_path):
    base = {"weight": normal(64, 64), "steps": torch.tensor(3), "half": normal(7, dtype=torch.bfloat16)}
    link = Link(tmp_path, "raw")

    link.send(trained(base), base)

    expected = (tmp_path / "trained").read_bytes()
    assert expected == link.update.read_bytes()
    assert expected == (tmp_path / "read").read_bytes()


@pytest.mark.parametrize("encoding", LOSSY)
def test_what_is_read_has_the_names_shapes_and_dtypes_that_were_sent(tmp_path, encoding):
    base = {
        "single": normal(40, 50),
        "double": normal(3000, dtype=torch.float64),
        "half": normal(3000, dtype=torch.float16),
        "brain": normal(2, 3, 500, dtype=torch.bfloat16),
        "steps": torch.arange(2000),
        "scalar": torch.tensor(0.5),
        "empty": torch.empty(0, 4),
        "flags": torch.ones(2000, dtype=torch.bool),
    }
    link = Link(tmp_path, encoding)

    found = link.send(
        trained({k: v for k, v in base.items() if k != "flags"}) | {"flags": base["flags"]}, base
    )

    assert {name: (value.dtype, value.shape) for name, value in base.items()} == {
        name: (value.dtype, value.shape) for name, value in found.items()
    }
    with DecodedFile(link.update, tmp_path / "base") as file:
        assert read_header(tmp_path / "trained").entries == file.index.entries


@pytest.mark.parametrize("encoding", LOSSY)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("integers", torch.arange(5000)),
        ("small", normal(SMALL_ELEMENTS - 1)),
        ("scalar", torch.tensor(0.25)),
        ("nan", torch.cat([normal(5000), torch.tensor([float("nan")])])),
        ("infinite", torch.cat([torch.tensor([float("-inf")]), normal(5000)])),
        ("huge", torch.full((5000,), 1e300, dtype=torch.float64)),
        ("at the end of the range", torch.full((5000,), torch.finfo(torch.float32).max)),
        ("n" * 490, normal(5000)),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)
def test_a_tensor_that_cannot_be_encoded_well_is_sent_as_it_is(tmp_path, encoding, name, value):
    model = {name: value, "other": normal(ELEMENTS)}
    link = Link(tmp_path, encoding)

    found = link.send(model, {name: torch.zeros_like(value), "other": torch.zeros(ELEMENTS)})

    torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)
    assert name in read_header(link.update)
    assert {"other"} == link.left().keys() or not link.encoding.feeds_back


@pytest.mark.parametrize("encoding", ["fp16", "bf16"])
def test_a_tensor_that_would_not_get_smaller_is_sent_as_it_is(tmp_path, encoding):
    value = normal(ELEMENTS, dtype=torch.float16)

    found = Link(tmp_path, encoding).send({"w": value}, {"w": torch.zeros_like(value)})

    assert torch.equal(found["w"], value)


def test_a_tensor_whose_parts_would_take_the_name_of_another_is_sent_as_it_is(tmp_path):
    model = {"w": normal(ELEMENTS), "w.scale": normal(3)}

    found = Link(tmp_path, "int8").send(model, {name: torch.zeros_like(one) for name, one in model.items()})

    assert all(torch.equal(found[name], value) for name, value in model.items())


def test_a_tensor_that_the_global_model_lacks_is_left_for_the_gate_to_see(tmp_path):
    model = {"w": normal(ELEMENTS), "odd": normal(ELEMENTS)}

    found = Link(tmp_path, "topk:0.01").send(model, {"w": torch.zeros(ELEMENTS), "odd": torch.zeros(7)})

    assert torch.equal(found["odd"], model["odd"])


@pytest.mark.parametrize("encoding", LOSSY)
def test_the_same_update_gives_the_same_bytes(tmp_path, encoding):
    base = {name: normal(300, 200, seed=seed) for seed, name in enumerate("abc")}
    one, other = Link(tmp_path / "one", encoding), Link(tmp_path / "other", encoding)

    for link in (one, other):
        link.send(trained(base), base)
        link.send(trained(base, seed=2), base)

    assert one.update.read_bytes() == other.update.read_bytes()
    if one.residual and other.residual:
        assert one.residual.read_bytes() == other.residual.read_bytes()


@pytest.mark.parametrize("encoding", ["raw", *LOSSY])
def test_digest_and_size_are_those_of_the_file_and_nothing_else_is_left(tmp_path, encoding):
    save_tensors(tmp_path / "trained", {"w": normal(ELEMENTS)})
    save_tensors(tmp_path / "base", {"w": torch.zeros(ELEMENTS)})

    written = encode_update(
        tmp_path / "trained", tmp_path / "update", Encoding.parse(encoding), base=tmp_path / "base"
    )

    content = (tmp_path / "update").read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (written.sha256, written.size_bytes)
    assert {"trained", "base", "update"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("encoding", LOSSY)
def test_the_safetensors_library_reads_encoded_files(tmp_path, encoding):
    library = pytest.importorskip("safetensors.torch")
    link = Link(tmp_path, encoding)

    link.send({"w": normal(ELEMENTS)}, {"w": torch.zeros(ELEMENTS)})

    assert read_header(link.update).keys() == library.load_file(link.update).keys()


@pytest.mark.parametrize("encoding", ["raw", *LOSSY])
def test_any_run_of_elements_can_be_read_alone(tmp_path, encoding):
    elements = 2 * BLOCK_ELEMENTS + 12_345
    link = Link(tmp_path, encoding)
    whole = link.send({"w": normal(elements)}, {"w": normal(elements, seed=7)})["w"].numpy()

    with DecodedFile(link.update, tmp_path / "base") as file:
        for first, count in [
            (0, 1),
            (SPAN - 1, 2),
            (5, 3 * SPAN),
            (elements - 7, 7),
            (BLOCK_ELEMENTS, BLOCK_ELEMENTS),
            (9, 0),
        ]:
            np.testing.assert_array_equal(whole[first : first + count], file.read("w", first, count))


@pytest.mark.parametrize(("encoding", "relative"), [("fp16", 2**-11), ("bf16", 2**-8)])
def test_a_global_model_goes_out_by_value(tmp_path, encoding, relative):
    model = {"w": normal(ELEMENTS), "steps": torch.tensor(5)}
    save_tensors(tmp_path / "model", model)

    encode_model(tmp_path / "model", tmp_path / "sent", Encoding.parse(encoding))
    decode_file(tmp_path / "sent", tmp_path / "read")

    found = load_tensors(tmp_path / "read")
    torch.testing.assert_close(found["w"], model["w"], rtol=relative, atol=0)
    assert model["steps"] == found["steps"]


@pytest.mark.parametrize("encoding", ["raw", "int8", "topk:0.01"])
def test_a_global_model_goes_out_raw_where_only_changes_can_be_encoded(tmp_path, encoding):
    save_tensors(tmp_path / "model", {"w": normal(ELEMENTS)})

    encode_model(tmp_path / "model", tmp_path / "sent", Encoding.parse(encoding))

    assert (tmp_path / "model").read_bytes() == (tmp_path / "sent").read_bytes()


def test_a_change_below_the_rounding_of_the_global_model_is_not_lost(tmp_path):
    model, step = normal(ELEMENTS), 2**-14
    save_tensors(tmp_path / "model", {"w": model})
    encode_model(tmp_path / "model", tmp_path / "sent", Encoding("bf16"))
    decode_file(tmp_path / "sent", tmp_path / "received")
    save_tensors(tmp_path / "trained", {"w": load_tensors(tmp_path / "received")["w"] + step})

    encode_update(tmp_path / "trained", tmp_path / "update", Encoding("bf16"), base=tmp_path / "received")
    decode_file(tmp_path / "update", tmp_path / "read", tmp_path / "model")

    torch.testing.assert_close(load_tensors(tmp_path / "read")["w"], model + step, rtol=0, atol=step / 100)


def test_an_update_cannot_be_read_without_its_global_model(tmp_path):
    link = Link(tmp_path, "bf16")
    link.send({"w": normal(ELEMENTS)}, {"w": torch.zeros(ELEMENTS)})

    with pytest.raises(InvalidTensorsError, match="nothing that they could be about"):
        DecodedFile(link.update)


@pytest.mark.parametrize("encoding", ["int8", "topk:0.01"])
def test_a_tensor_that_is_sent_as_it_is_keeps_its_residual_for_later(tmp_path, encoding):
    base = {"w": torch.zeros(ELEMENTS)}
    link = Link(tmp_path, encoding)
    link.send({"w": normal(ELEMENTS)}, base)
    before = link.left()["w"]

    link.send({"w": torch.full((ELEMENTS,), float("nan"))}, base)

    assert torch.equal(before, link.left()["w"])


def test_a_residual_of_another_model_is_refused_and_nothing_is_written(tmp_path):
    link = Link(tmp_path, "int8")
    link.send({"w": normal(ELEMENTS)}, {"w": torch.zeros(ELEMENTS)})
    before = link.update.read_bytes()

    with pytest.raises(InvalidTensorsError, match="residual 'w' does not fit"):
        link.send({"w": normal(ELEMENTS // 2)}, {"w": torch.zeros(ELEMENTS // 2)})

    assert before == link.update.read_bytes()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("encoding", LOSSY)
def test_memory_does_not_depend_on_the_size_of_a_tensor(tmp_path, encoding):
    elements = 6_000_000
    save_tensors(tmp_path / "trained", {"w": normal(elements)})
    save_tensors(tmp_path / "base", {"w": torch.zeros(elements)})
    tracemalloc.start()
    try:
        encode_update(
            tmp_path / "trained",
            tmp_path / "update",
            Encoding.parse(encoding),
            base=tmp_path / "base",
            residual_to=tmp_path / "residual",
        )
        decode_file(tmp_path / "update", tmp_path / "read", tmp_path / "base")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < elements * 4


class TestCompression:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("zstandard")

    def test_a_file_comes_back_from_compression_as_it_was(self, tmp_path):
        link = Link(tmp_path, "int8")
        link.send({"w": normal(ELEMENTS)}, {"w": torch.zeros(ELEMENTS)})
        size = link.update.stat().st_size

        packed = compress_file(link.update, tmp_path / "packed")
        plain = decompress_file(tmp_path / "packed", tmp_path / "plain", size_bytes=size)

        assert link.update.read_bytes() == (tmp_path / "plain").read_bytes()
        assert (hashlib.sha256(link.update.read_bytes()).hexdigest(), size) == (
            plain.sha256,
            plain.size_bytes,
        )
        assert packed.size_bytes == (tmp_path / "packed").stat().st_size < 0.95 * size

    def test_the_same_file_is_compressed_to_the_same_bytes(self, tmp_path):
        save_tensors(tmp_path / "plain", {"w": normal(ELEMENTS)})

        assert compress_file(tmp_path / "plain", tmp_path / "one") == compress_file(
            tmp_path / "plain", tmp_path / "other"
        )


def test_without_the_package_compression_names_the_extra_to_install(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(compression.importlib, "import_module", absent)
    (tmp_path / "plain").write_bytes(b"weights!")

    with pytest.raises(MissingExtraError, match="WRN-903"):
        compress_file(tmp_path / "plain", tmp_path / "packed")


def test_an_encoded_file_reads_like_a_raw_one_through_the_same_interface(tmp_path):
    link = Link(tmp_path, "raw")
    link.send({"w": normal(ELEMENTS)}, {"w": torch.zeros(ELEMENTS)})

    with DecodedFile(link.update, tmp_path / "base") as file, BlockFile(link.update) as plain:
        assert plain.index.entries == file.index.entries
        np.testing.assert_array_equal(plain.read("w", 5, 50), file.read("w", 5, 50))
