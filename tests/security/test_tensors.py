"""No safetensors file, however made, gets past the header with a lie."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidTensorsError
from common.payload.header import JSON_BYTES, read_header


def made(header, data=b"", length=None):
    """Return the bytes of a file with this header, a document or bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EIGHT = bytes(8)
HOSTILE = {
    "nothing": b"",
    "a_cut_length": b"\x08\0\0",
    "a_length_beyond_the_file": made({}, length=10_000),
    "a_length_of_16_exabytes": made({}, length=2**64 - 1),
    "a_length_above_the_cap": made({}, length=JSON_BYTES + 1),
    "an_empty_header": made(b""),
    "a_header_that_is_a_list": made(b"[]"),
    "a_header_with_blanks_first": made(b"  {}"),
    "a_header_that_is_no_json": made(b"{nonsense"),
    "a_header_that_is_no_utf8": made(b'{"\xff\xfe": 1}'),
    "a_header_nested_too_deeply": made(b'{"a":' + b"[" * 200_000),
    "a_number_of_5000_digits": made(
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}', EIGHT
    ),
    "the_same_tensor_twice": made(
        b'{"a":%b,"a":%b}' % ((json.dumps(tensor()).encode(),) * 2),
        EIGHT,
    ),
    "the_same_field_twice": made(
        b'{"a":{"dtype":"F32","dtype":"F64","shape":[2],"data_offsets":[0,8]}}', EIGHT
    ),
    "metadata_that_are_no_texts": made({"__metadata__": {"a": 1}}),
    "metadata_that_are_a_list": made({"__metadata__": ["a"]}),
    "a_tensor_that_is_a_number": made({"a": 1}, EIGHT),
    "a_field_too_many": made({"a": tensor() | {"more": 1}}, EIGHT),
    "a_field_too_few": made({"a": {"dtype": "F32", "shape": [2]}}, EIGHT),
    "an_unknown_dtype": made({"a": tensor(dtype="F33")}, EIGHT),
    "a_dtype_that_is_a_list": made({"a": tensor() | {"dtype": ["F32"]}}, EIGHT),
    "a_shape_that_is_a_text": made({"a": tensor() | {"shape": "2"}}, EIGHT),
    "a_negative_size": made({"a": tensor(shape=(-2,))}, EIGHT),
    "two_negative_sizes": made({"a": tensor(shape=(-1, -2))}, EIGHT),
    "a_fractional_size": made({"a": tensor(shape=(2.0,))}, EIGHT),
    "a_size_that_is_true": made({"a": tensor(shape=(True, 2))}, EIGHT),
    "a_shape_that_overflows_64_bits": made({"a": tensor(shape=(2**62, 2**62, 4))}, EIGHT),
    "a_shape_that_wraps_around_to_fit": made({"a": tensor(shape=(2**61 + 2,))}, EIGHT),
    "too_many_dimensions": made({"a": tensor(shape=(1,) * 33 + (2,))}, EIGHT),
    "a_shape_smaller_than_its_bytes": made({"a": tensor(shape=(1,))}, EIGHT),
    "a_shape_larger_than_its_bytes": made({"a": tensor(shape=(3,))}, EIGHT),
    "three_offsets": made({"a": tensor(offsets=(0, 4, 8))}, EIGHT),
    "a_negative_offset": made({"a": tensor(offsets=(-8, 0))}, EIGHT),
    "offsets_in_reverse": made({"a": tensor(offsets=(8, 0))}, EIGHT),
    "an_end_behind_the_file": made({"a": tensor(shape=(4,), offsets=(0, 16))}, EIGHT),
    "a_cut_file": made({"a": tensor()}, EIGHT)[:-1],
    "bytes_before_the_first_tensor": made({"a": tensor(shape=(1,), offsets=(4, 8))}, EIGHT),
    "bytes_behind_the_last_tensor": made({"a": tensor()}, EIGHT + b"x"),
    "a_gap_between_tensors": made(
        {"a": tensor(shape=(1,), offsets=(0, 4)), "b": tensor(shape=(1,), offsets=(8, 12))}, bytes(12)
    ),
    "tensors_that_overlap": made(
        {"a": tensor(), "b": tensor(shape=(1,), offsets=(4, 8))},
        EIGHT,
    ),
    "two_tensors_in_one_place": made({"a": tensor(), "b": tensor()}, EIGHT),
    "a_name_that_moves_the_cursor": made({"a\x1b[2J": tensor()}, EIGHT),
    "a_name_with_half_a_character": made(b'{"\\ud800":%b}' % json.dumps(tensor()).encode(), EIGHT),
    "a_name_without_end": made({"a" * 501: tensor()}, EIGHT),
    "no_name": made({"": tensor()}, EIGHT),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_with_a_reason(content, tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)

    with pytest.raises(InvalidTensorsError) as from_bytes:
        read_header(content)
    with pytest.raises(InvalidTensorsError) as from_file:
        read_header(path)

    assert from_bytes.value.facts == from_file.value.facts


def test_a_header_of_an_announced_exabyte_is_refused_before_anything_is_read(tmp_path):
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", JSON_BYTES + 1))
        file.truncate(2 * JSON_BYTES)

    with pytest.raises(InvalidTensorsError, match="larger than"):
        read_header(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidTensorsError, match="cannot be read"):
        read_header(tmp_path / "none")


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_the_typed_error(content):
    with pytest.raises(InvalidTensorsError):
        read_header(content)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["F32", "I64"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a", "b"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.binary(max_size=40))
def test_whatever_is_accepted_covers_the_file_exactly(document, data):
    content = made(document, data)
    try:
        index = read_header(content)
    except InvalidTensorsError:
        return

    assert sum(entry.end - entry.start for entry in index.values()) == len(data)


@given(st.data())
def test_a_file_with_one_changed_byte_is_refused_or_still_covers_the_file(data):
    content = bytearray(
        made({"a": tensor(), "b": tensor(shape=(1, 1), offsets=(8, 10), dtype="BF16")}, bytes(10))
    )
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    try:
        index = read_header(content)
    except InvalidTensorsError:
        return

    assert max((entry.end for entry in index.values()), default=0) == len(content)
