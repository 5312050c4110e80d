"""Hostile encoded payloads are refused with a reason, and allocate nothing that they did not bring along."""

import contextlib
import json
import struct
import tracemalloc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import InvalidTensorsError
from common.payload.blocks import blocks
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.decoder import DecodedFile, decode_file
from common.payload.encodings.forms import SPAN
from common.payload.encodings.note import KEY
from common.payload.header import read_header
from common.payload.tensors import load_tensors, save_tensors
from tests.support.encodings import Link

ELEMENTS = SPAN + 100
KEPT = 328 + 2  # one in a hundred: of 32768 elements rounded, of the last 100 rounded up


@pytest.fixture
def base(tmp_path):
    save_tensors(tmp_path / "base", {"w": torch.ones(ELEMENTS), "steps": torch.tensor(3)})
    return tmp_path / "base"


def forged(tmp_path, tensors, note):
    """Write a file with a note as an attacker likes it."""
    text = note if isinstance(note, str) else json.dumps(note)
    save_tensors(tmp_path / "forged", tensors, {KEY: text})
    return tmp_path / "forged"


def note(encoding, of="change", **dtypes):
    return {"encoding": encoding, "of": of, "dtypes": dtypes or {"w": "F32"}}


def int8(scale=0.5, elements=ELEMENTS):
    return {"w.q8": torch.ones(elements, dtype=torch.int8), "w.scale": torch.tensor(scale)}


def topk(places=None, values=None, kept=KEPT):
    if places is None:
        places = torch.cat([torch.arange(kept - 2), torch.tensor([7, 99])])
    return {
        "w.idx": places.to(torch.int16),
        "w.val": torch.ones(kept, dtype=torch.bfloat16) if values is None else values,
    }


def drained(path, base=None):
    with DecodedFile(path, base) as file:
        for name, entry in file.index.items():
            for block in blocks(entry):
                file.read(name, *block)


@pytest.mark.parametrize(
    ("tensors", "encoding"), [(int8(), "int8"), (topk(), "topk:0.01")], ids=["int8", "topk"]
)
def test_the_forger_of_these_tests_can_also_write_what_is_valid(tmp_path, base, tensors, encoding):
    path = forged(tmp_path, tensors | {"steps": torch.tensor(4)}, note(encoding))

    decode_file(path, tmp_path / "read", base)

    assert torch.Size([ELEMENTS]) == load_tensors(tmp_path / "read")["w"].shape


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{" * 10_000,
        '{"encoding":"int8","of":"change"}',
        note("int8") | {"more": 1},
        note("raw"),
        note("int8+zstd"),
        note("topk"),
        note("topk:2"),
        note("topk:0.0"),
        note("fp64"),
        note("int8", of="value"),
        note("topk:0.01", of="value"),
        note("int8", of="nothing"),
        note("int8") | {"dtypes": {"w": "I64"}},
        note("int8") | {"dtypes": {"w": ["F32", [2**60]]}},
        note("int8") | {"dtypes": "F32"},
    ],
)
def test_a_note_that_is_not_valid_is_refused(tmp_path, base, text):
    with pytest.raises(InvalidTensorsError, match="note about the encoding"):
        DecodedFile(forged(tmp_path, int8(), text), base)


@pytest.mark.parametrize(
    ("tensors", "facts", "reason"),
    [
        ({"w.q8": int8()["w.q8"]}, note("int8"), "no part 'w.scale'"),
        ({"w.scale": torch.tensor(0.5)}, note("int8"), "no part 'w.q8'"),
        ({"w.idx": topk()["w.idx"]}, note("topk:0.01"), "no part 'w.val'"),
        ({"w.val": topk()["w.val"]}, note("topk:0.01"), "no part 'w.idx'"),
        ({}, note("bf16"), "no part 'w'"),
        (int8(elements=7), note("int8"), "no part 'w.q8'"),
        (int8() | {"w.scale": torch.ones(2)}, note("int8"), "no part 'w.scale'"),
        (int8() | {"w.scale": torch.tensor(1.0).double()}, note("int8"), "no part 'w.scale'"),
        (
            {"w.q8": int8()["w.q8"].reshape(4, -1), "w.scale": torch.tensor(1.0)},
            note("int8"),
            "no part 'w.q8'",
        ),
        (topk(kept=KEPT + 1), note("topk:0.01"), "no part 'w.idx'"),
        (topk(kept=ELEMENTS + 1), note("topk:0.99"), "no part 'w.idx'"),
        (int8() | {"w": torch.ones(ELEMENTS)}, note("int8"), "there encoded and not encoded"),
        ({"v.q8": int8()["w.q8"], "v.scale": torch.tensor(1.0)}, note("int8", v="F32"), "no tensor 'v'"),
        (int8(), note("int8", w="F64"), "is F32 and was encoded as F64"),
        ({"steps.q8": torch.tensor(1, dtype=torch.int8)}, note("int8", steps="F32"), "is I64"),
    ],
)
def test_parts_that_do_not_fit_the_global_model_are_refused(tmp_path, base, tensors, facts, reason):
    with pytest.raises(InvalidTensorsError, match=reason):
        DecodedFile(forged(tmp_path, tensors, facts), base)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("encoding", ["int8", "fp16"])
def test_a_scale_that_is_no_positive_number_is_refused(tmp_path, base, encoding, scale):
    parts = (
        int8(scale)
        if encoding == "int8"
        else {
            "w.f16": torch.ones(ELEMENTS, dtype=torch.float16),
            "w.scale": torch.tensor(scale),
        }
    )

    with pytest.raises(InvalidTensorsError, match="'w' has the scale"):
        drained(forged(tmp_path, parts, note(encoding)), base)


ASCENDING = torch.arange(328)


@pytest.mark.parametrize(
    "places",
    [
        torch.cat([ASCENDING, torch.tensor([7, 100])]),
        torch.cat([ASCENDING, torch.tensor([-1, 7])]),
        torch.cat([torch.tensor([-1]), ASCENDING[:-1], torch.tensor([7, 99])]),
        torch.cat([ASCENDING.flip(0), torch.tensor([7, 99])]),
        torch.cat([torch.zeros(328), torch.tensor([7, 99])]),
        torch.cat([ASCENDING[:-1], ASCENDING[-2:-1], torch.tensor([7, 99])]),
        torch.full((KEPT,), -(2**15)),
    ],
    ids=[
        "behind the end",
        "of the span before",
        "before the start",
        "descending",
        "all alike",
        "twice",
        "lowest",
    ],
)
def test_places_out_of_range_or_order_or_twice_are_refused(tmp_path, base, places):
    with pytest.raises(InvalidTensorsError, match="places that are out of range, out of order, or twice"):
        drained(forged(tmp_path, topk(places), note("topk:0.01")), base)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("encoding", ["fp16", "bf16", "topk:0.01"])
def test_encoded_numbers_that_are_not_finite_are_refused(tmp_path, base, encoding, value):
    parts = {
        "fp16": {"w.f16": torch.full((ELEMENTS,), value).half(), "w.scale": torch.tensor(1.0)},
        "bf16": {"w": torch.full((ELEMENTS,), value).bfloat16()},
        "topk:0.01": topk(values=torch.full((KEPT,), value).bfloat16()),
    }[encoding]

    with pytest.raises(InvalidTensorsError, match="not finite"):
        drained(forged(tmp_path, parts, note(encoding)), base)


def test_a_change_that_leaves_the_range_of_the_dtype_is_left_infinite_for_the_gate_to_see(tmp_path, base):
    path = forged(
        tmp_path, int8(scale=3e38) | {"w.q8": torch.full((ELEMENTS,), 127, dtype=torch.int8)}, note("int8")
    )

    decode_file(path, tmp_path / "read", base)

    assert load_tensors(tmp_path / "read")["w"].isinf().all()


def test_a_file_that_claims_a_huge_tensor_allocates_nothing(tmp_path, base):
    path = forged(tmp_path, topk(), note("topk:0.01"))
    huge = {"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    header = json.dumps(huge).encode()
    (tmp_path / "huge").write_bytes(len(header).to_bytes(8, "little") + header)
    tracemalloc.start()
    try:
        for files in ((path, tmp_path / "huge"), (tmp_path / "huge", base)):
            with pytest.raises(InvalidTensorsError):
                DecodedFile(*files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 2**20


def test_a_file_that_is_refused_leaves_nothing_behind(tmp_path, base):
    path = forged(tmp_path, int8(scale=float("nan")), note("int8"))

    with pytest.raises(InvalidTensorsError):
        decode_file(path, tmp_path / "read", base)

    assert {"base", "forged"} == {file.name for file in tmp_path.iterdir()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(encoding=st.sampled_from(["fp16", "bf16", "int8", "topk:0.1"]), data=st.data())
def test_any_damage_is_harmless_or_refused_with_a_typed_error(tmp_path_factory, encoding, data):
    link = Link(tmp_path_factory.mktemp("link"), encoding)
    link.send({"w": torch.linspace(-1, 1, 1100)}, {"w": torch.zeros(1100)})
    content = bytearray(link.update.read_bytes())
    header = read_header(link.update)
    start = min(entry.start for entry in header.values())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.one_of(st.integers(0, start - 1), st.integers(0, len(content) - 1)))] = (
            data.draw(st.integers(0, 255))
        )
    damaged = link.folder / "damaged"
    damaged.write_bytes(content)

    with contextlib.suppress(InvalidTensorsError):
        drained(damaged, link.folder / "base")


class TestCompression:
    @pytest.fixture(autouse=True)
    def _installed(self):
        self.zstandard = pytest.importorskip("zstandard")

    def test_a_bomb_is_refused_before_it_fills_memory_or_disk(self, tmp_path):
        (tmp_path / "zeros").write_bytes(bytes(64 * 2**20))
        bomb = compress_file(tmp_path / "zeros", tmp_path / "bomb")
        tracemalloc.start()
        try:
            with pytest.raises(InvalidTensorsError, match="more than the announced 1000 bytes"):
                decompress_file(tmp_path / "bomb", tmp_path / "plain", size_bytes=1000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert bomb.size_bytes < 10_000
        assert peak < 2**20
        assert {"zeros", "bomb"} == {file.name for file in tmp_path.iterdir()}

    def test_a_file_that_holds_less_than_announced_is_refused(self, tmp_path):
        (tmp_path / "plain").write_bytes(b"weights!" * 100)
        compress_file(tmp_path / "plain", tmp_path / "packed")

        with pytest.raises(InvalidTensorsError, match="less than the announced 801 bytes"):
            decompress_file(tmp_path / "packed", tmp_path / "read", size_bytes=801)

    @pytest.mark.parametrize("cut", [0, 3, 20, -1])
    def test_a_cut_file_is_refused(self, tmp_path, cut):
        (tmp_path / "plain").write_bytes(bytes(range(256)) * 100)
        compress_file(tmp_path / "plain", tmp_path / "packed")
        (tmp_path / "packed").write_bytes((tmp_path / "packed").read_bytes()[:cut])

        with pytest.raises(InvalidTensorsError):
            decompress_file(tmp_path / "packed", tmp_path / "read", size_bytes=25_600)

    def test_bytes_that_are_not_zstd_are_refused(self, tmp_path):
        (tmp_path / "packed").write_bytes(b"weights!" * 100)

        with pytest.raises(InvalidTensorsError, match="not valid zstd"):
            decompress_file(tmp_path / "packed", tmp_path / "read", size_bytes=800)

    def test_a_file_that_wants_a_huge_window_is_refused(self, tmp_path):
        descriptor = (31 - 10) << 3  # a window of 2 GiB (RFC 8878, section 3.1.1.1.2)
        block = 1 | 0 << 1 | 4 << 3
        frame = struct.pack("<IBB", 0xFD2FB528, 0, descriptor) + block.to_bytes(3, "little") + b"abcd"
        (tmp_path / "packed").write_bytes(frame)

        with pytest.raises(InvalidTensorsError, match="not valid zstd"):
            decompress_file(tmp_path / "packed", tmp_path / "read", size_bytes=4)
