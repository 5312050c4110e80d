"""Messages as bytes and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import MalformedMessageError, MessageError, MessageTooLargeError, ProtocolVersionError
from common.ids import PartyId
from common.limits import HEADER_BYTES, MESSAGE_BYTES
from common.messages import Chunk, PayloadManifest, PingRequest, SearchRequest, decode, encode
from common.messages.codec import MAGIC

PING = PingRequest(sender=PartyId("alice"), recipients=(PartyId("north"),))


def body_of(document: object) -> bytes:
    header = json.dumps(document).encode()
    return MAGIC + len(header).to_bytes(4) + header


def test_a_message_comes_back_as_it_was_with_what_rode_behind_it():
    message, payload = decode(encode(PING, b"tensors"))

    assert PING == message
    assert b"tensors" == bytes(payload)


@given(tags=st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=5))
def test_any_text_survives_the_wire(tags):
    request = SearchRequest(sender=PartyId("alice"), recipients=(PartyId("north"),), tags=tuple(tags))

    assert request == decode(encode(request))[0]


@given(data=st.binary(max_size=300))
def test_noise_gives_a_typed_error_and_nothing_else(data):
    for body in (data, MAGIC + data, MAGIC + len(data).to_bytes(4) + data):
        with pytest.raises(MessageError):
            decode(body)


@given(data=st.data())
def test_a_damaged_message_is_refused_or_still_valid(data):
    body = bytearray(encode(PING))
    index = data.draw(st.integers(0, len(body) - 1))
    body[index] ^= data.draw(st.integers(1, 255))

    try:
        message, _ = decode(bytes(body))
    except MessageError:
        return
    assert isinstance(message, PingRequest)


def test_unknown_fields_are_refused():
    document = PING.model_dump(mode="json") | {"surprise": 1}

    with pytest.raises(MalformedMessageError, match="surprise"):
        decode(body_of(document))


def test_unknown_kinds_are_refused():
    with pytest.raises(MalformedMessageError):
        decode(body_of(PING.model_dump(mode="json") | {"kind": "no_such_thing"}))


@pytest.mark.parametrize(
    ("version", "older"),
    [("1.1", "this side"), ("2.0", "this side"), ("1.10", "this side"), ("0.9", "north"), ("soon", "north")],
)
@pytest.mark.parametrize("more", [{}, {"new_field": 1}])
def test_another_version_is_refused_and_says_which_side_to_upgrade(version, older, more):
    document = PING.model_dump(mode="json") | {"protocol": version} | more

    with pytest.raises(ProtocolVersionError, match=f"speaks protocol {version}") as caught:
        decode(body_of(document), sender="north")

    assert f"upgrade Warren at {older}" == caught.value.advice


def test_a_refused_message_does_not_show_its_values():
    document = PING.model_dump(mode="json") | {"created_at": "patient 4711"}

    with pytest.raises(MalformedMessageError) as caught:
        decode(body_of(document))

    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "decoded_bytes"),
    [
        ("int8+zstd", None),
        ("int8", 200),
        ("int8+zstd", 2**40),
        ("topk:0.0", None),
        ("gzip", None),
        ("raw\n", None),
    ],
)
def test_a_payload_that_is_described_in_contradictions_is_refused(encoding, decoded_bytes):
    with pytest.raises(ValidationError):
        PayloadManifest(
            sha256="0" * 64, size_bytes=100, encoding=encoding, decoded_bytes=decoded_bytes, inline=True
        )


def test_the_length_of_the_json_is_not_believed():
    with pytest.raises(MalformedMessageError, match="cannot be"):
        decode(MAGIC + (2**32 - 1).to_bytes(4) + b"{}")


def test_messages_larger_than_the_wire_allows_are_not_sent():
    manifest = PayloadManifest(sha256="0" * 64, size_bytes=100, inline=False)
    chunk = Chunk(sender=PartyId("a"), recipients=(PartyId("b"),), manifest=manifest, index=0)
    huge = SearchRequest.model_construct(
        **(
            SearchRequest(sender=PartyId("a"), recipients=(PartyId("b"),), tags=("x",)).model_dump()
            | {"tags": ("x" * HEADER_BYTES,)}
        )
    )

    with pytest.raises(MessageTooLargeError):
        encode(chunk, bytes(MESSAGE_BYTES))
    with pytest.raises(MessageTooLargeError):
        encode(huge)
