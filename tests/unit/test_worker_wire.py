"""What agent and worker say to each other arrives as it was said, or not at all."""

import socket
import struct
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import MalformedMessageError, MessageTooLargeError
from common.ids import derived_uuid
from node.worker.protocol import HANDED_BYTES, REPORT_BYTES, Made, Progress
from node.worker.wire import read_order, read_report, write_order, write_report
from tests.support.tasks import Desk, done

DEADLINE_S = 20
DONE = done(derived_uuid("task"))
PROGRESS = Progress(task_id=DONE.task_id, losses=())


@contextmanager
def line():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(DEADLINE_S)
        theirs.settimeout(DEADLINE_S)
        yield ours, theirs


def frame(*parts, lengths=None):
    lengths = lengths or [len(part) for part in parts]
    return struct.pack(f">{len(lengths)}I", *lengths) + b"".join(parts)


def json_of(report):
    return report.model_dump_json().encode()


@pytest.mark.parametrize(
    "made",
    [
        Made(DONE),
        Made(DONE, b"update"),
        Made(DONE, bytes(HANDED_BYTES), bytes(HANDED_BYTES)),
        Made(DONE, Path("/scratch/\udcff"), b"state"),
        Made(DONE, None, Path("/scratch/state")),
    ],
)
def test_what_a_worker_made_arrives_as_it_was_handed_over(made):
    with line() as (ours, theirs):
        write_report(theirs, made)
        assert made == read_report(ours)
        write_report(theirs, PROGRESS)
        assert PROGRESS == read_report(ours)


@pytest.mark.parametrize("state", [None, b"kept", Path("/run/in/state")])
def test_a_worker_gets_what_is_the_same_for_a_run_once(tmp_path, state):
    desk = Desk(tmp_path)
    first = desk.task(model=b"model")
    second = replace(first, model=Path("/run/in/model"), state=state)
    with line() as (ours, theirs):
        told = write_order(ours, first)
        got = read_order(theirs)
        before = len(told)
        assert told == write_order(ours, second, told)
        sent = theirs.recv(100_000, socket.MSG_PEEK)
        again = read_order(theirs, got.run)

    assert (first, second) == (got, again)
    assert again.run is got.run
    assert len(sent) < before


@pytest.mark.parametrize("other", [True, 1.0, "1"])
def test_a_run_that_differs_in_the_type_of_an_argument_alone_is_told_anew(tmp_path, other):
    desk = Desk(tmp_path)
    first, second = (desk.task(model=b"model", model_args={"a": one}) for one in (1, other))
    with line() as (ours, theirs):
        write_order(ours, second, write_order(ours, first))
        got = read_order(theirs, read_order(theirs).run)

    assert repr(second.run.model_args) == repr(got.run.model_args)


@pytest.mark.parametrize(
    "sent",
    [
        frame(json_of(DONE), b"x" * (HANDED_BYTES + 1), b""),
        frame(lengths=[10, 0, HANDED_BYTES + 1]),
        frame(lengths=[10, 1 << 31 | 4097, 0]),
        frame(lengths=[1 << 31 | 10, 0, 0]),
        frame(lengths=[REPORT_BYTES + 1, 0, 0]),
        frame(json_of(PROGRESS), b"update", b""),
        frame(json_of(PROGRESS), b"", b"state"),
        frame(json_of(PROGRESS), b"/", lengths=[len(json_of(PROGRESS)), 1 << 31 | 1, 0]),
        frame(b"", b"update", b""),
    ],
    ids=[
        *("too much", "a state too large", "a path too long", "a document in a file", "a document too long"),
        *("progress with an update", "progress with a state", "progress with a path", "no document"),
    ],
)
def test_an_agent_takes_from_a_worker_no_more_than_belongs_to_its_report(sent):
    with line() as (ours, theirs):
        theirs.sendall(sent)

        with pytest.raises(MalformedMessageError):
            read_report(ours)


def test_a_worker_that_hands_over_less_than_it_said_has_said_nothing():
    with line() as (ours, theirs):
        theirs.sendall(frame(json_of(DONE), b"upd", lengths=[len(json_of(DONE)), 6, 0]))
        theirs.close()

        assert read_report(ours) is None


def test_only_what_is_said_counts_against_how_much_a_worker_may_say():
    heard = []
    with line() as (ours, theirs):
        write_report(theirs, Made(DONE, bytes(HANDED_BYTES), b"state"))
        read_report(ours, heard.append)

    assert [len(json_of(DONE))] == heard


def test_what_is_too_large_for_the_socket_is_not_sent(tmp_path):
    with line() as (ours, theirs):
        with pytest.raises(MessageTooLargeError):
            write_order(ours, Desk(tmp_path).task(model=bytes(HANDED_BYTES + 1)))
        with pytest.raises(MessageTooLargeError):
            write_report(ours, Made(DONE, bytes(HANDED_BYTES + 1)))
        write_report(ours, PROGRESS)

        assert PROGRESS == read_report(theirs)


@pytest.mark.parametrize("parts", [(b"", b"{}", b"m", b""), (b"{}", b"{}", b"m", b"")])
def test_a_worker_does_nothing_without_knowing_the_run(parts):
    with line() as (ours, theirs):
        ours.sendall(frame(*parts))

        with pytest.raises(MalformedMessageError):
            read_order(theirs)


def test_a_worker_does_nothing_without_a_model(tmp_path):
    task = Desk(tmp_path).task()
    with line() as (ours, theirs):
        ours.sendall(frame(json_of(task.run), json_of(task.task), b"", b""))

        with pytest.raises(MalformedMessageError, match="no model"):
            read_order(theirs)


def test_the_largest_order_of_a_usual_run_does_not_wait_for_its_worker(tmp_path):
    largest = Desk(tmp_path).task(model=bytes(HANDED_BYTES), state=bytes(HANDED_BYTES))
    with line() as (ours, theirs):
        ours.setblocking(False)
        write_order(ours, largest)

        assert largest == read_order(theirs)
