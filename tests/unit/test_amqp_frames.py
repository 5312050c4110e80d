"""How bodies become frames and frames become bodies, whatever pieces the socket gives."""

from __future__ import annotations

import itertools
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.transport.amqp_connection import BrokerConnection

CHANNEL = 3
MOST = 131072 - 8


class Line(BrokerConnection):
    """A connection without a socket: what it sends and the frames that it understood are kept."""

    def __init__(self) -> None:
        self._unparsed = bytearray()
        self._body_max_length = MOST
        self.bytes_received = 0
        self.sent = bytearray()
        self.frames: list[Any] = []

    def _output_marshaled_frames(self, marshaled_frames: Any) -> None:
        for frame in marshaled_frames:
            self.sent += frame

    def _process_frame(self, frame_value: Any) -> None:
        self.frames.append(frame_value)


def publish(line: Line, body: bytes) -> None:
    method = pika.spec.Basic.Publish(exchange="out.alice", routing_key="north.bulk")
    line._send_message(CHANNEL, method, (pika.BasicProperties(user_id="alice"), body))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 100, MOST - 1, MOST, MOST + 1, 3 * MOST]), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 2**22), max_size=40),
)
def test_what_is_sent_is_understood_in_whatever_pieces_it_comes(sizes: list[int], cuts: list[int]) -> None:
    line, bodies = Line(), [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    for body in bodies:
        publish(line, body)

    for piece in pieces(bytes(line.sent), cuts):
        line._on_data_available(piece)

    found: list[bytearray] = []
    for frame in line.frames:
        if isinstance(frame, pika.frame.Method):
            found.append(bytearray())
        elif isinstance(frame, pika.frame.Body):
            found[-1] += frame.fragment
            assert len(frame.fragment) <= MOST
    assert bodies == found
    assert len(line.sent) == line.bytes_received
    assert not line._unparsed


def test_a_message_is_sent_as_pika_itself_would_send_it() -> None:
    line, body = Line(), b"x" * (2 * MOST + 5)
    publish(line, body)
    ours = bytes(line.sent)
    line.sent.clear()

    method = pika.spec.Basic.Publish(exchange="out.alice", routing_key="north.bulk")
    pika.SelectConnection._send_message(line, CHANNEL, method, (pika.BasicProperties(user_id="alice"), body))

    assert bytes(line.sent) == ours


@pytest.mark.parametrize(
    "answer", [b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request\r\n", b"\x03\x00\x01\x7f\xff\xff\xff0"]
)
def test_what_is_no_frame_ends_the_connection_at_once(answer: bytes) -> None:
    with pytest.raises(pika.exceptions.InvalidFrameError):
        Line()._on_data_available(answer)


def test_a_frame_without_its_end_ends_the_connection() -> None:
    line = Line()
    publish(line, b"x" * 10)
    line.sent[-1] = 0

    with pytest.raises(pika.exceptions.InvalidFrameError):
        line._on_data_available(bytes(line.sent))
