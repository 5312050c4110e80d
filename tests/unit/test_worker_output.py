"""What workers print is kept, bounded, and cannot pass for anything else."""

import os
import threading

import pytest

from common.ids import RunId
from node.worker.output import WorkerLog
from node.worker.pace import Bucket

RUN = RunId("01900000-0000-7000-8000-000000000002")
OVER = threading.Event()
OVER.set()


def kept(tmp_path, *pieces):
    """Return the lines that are kept of what a worker prints, without their times."""
    path = tmp_path / "worker.log"
    output = WorkerLog(path)
    reader, writer = os.pipe()
    follower = threading.Thread(target=output.follow, args=(RUN, reader, OVER))
    follower.start()
    with os.fdopen(writer, "wb", buffering=0) as pipe:
        for piece in pieces:
            pipe.write(piece)
    follower.join(60)
    output.close()
    return [line[24:] for line in path.read_text().split("\n")[:-1]]


def test_every_line_begins_with_its_run(tmp_path):
    assert [f"{RUN} one", f"{RUN} two", f"{RUN} "] == kept(tmp_path, b"one\ntwo\n", b"\n")


def test_a_last_line_without_an_end_is_kept(tmp_path):
    assert [f"{RUN} one", f"{RUN} two"] == kept(tmp_path, b"one\ntw", b"o")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"\x1b[2J", "\\u{1b}[2J"),
        (b"one\rtwo", "one\\u{d}two"),
        ("\u2028\u202e".encode(), "\\u{2028}\\u{202e}"),
        (b"\xff", "\\xff"),
        ("männlich".encode(), "männlich"),
    ],
)
def test_what_a_terminal_or_reader_would_act_on_is_escaped(tmp_path, printed, shown):
    assert [f"{RUN} {shown}"] == kept(tmp_path, printed)


def test_a_long_line_is_cut(tmp_path):
    lines = kept(tmp_path, b"x" * 10_000 + b"\nend\n")

    assert f"{RUN} end" == lines[-1]
    assert 10_000 == sum(line.count("x") for line in lines)
    assert all(len(line) < 4200 for line in lines)


def test_what_is_printed_too_fast_is_left_out_and_that_is_said(tmp_path):
    lines = kept(tmp_path, *[b"x" * 1023 + b"\n"] * 3000)

    left_out = sum(int(line.split()[1][1:]) for line in lines if line.endswith("left out)"))
    whole = sum(line.endswith("x") for line in lines)
    assert 3000 * 1024 == left_out + whole * 1024
    assert 900 < whole < 1200


def test_nothing_is_kept_after_the_file_was_closed(tmp_path):
    output = WorkerLog(tmp_path / "worker.log")
    output.close()
    reader, writer = os.pipe()
    os.write(writer, b"late\n")
    os.close(writer)

    output.follow(RUN, reader, OVER)

    assert "" == (tmp_path / "worker.log").read_text()


def test_a_bucket_gives_a_burst_and_then_says_how_long_to_wait():
    bucket = Bucket(100, 10)

    assert 0.0 == bucket.take(60)
    assert 1.9 < bucket.take(60) <= 2.0
    assert 0.0 == bucket.take(40)


def test_an_empty_bucket_holds_nobody_up_once_it_is_over():
    bucket = Bucket(1, 1)
    bucket.take(1)

    bucket.admit(1, OVER)
