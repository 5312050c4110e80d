"""The worker process answers every task, and lives no longer than its agent."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import torch

from common.errors import MalformedMessageError
from node.worker.child import serve
from node.worker.protocol import FRAME_BYTES, Done, Failed, Progress, Ready, read_frame, write_frame
from tests.support.tasks import Desk

DEADLINE_S = 60.0


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    made.write_model()
    return made


@contextmanager
def worker():
    """Serve one end of a socket in this process and yield the other."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    thread = threading.Thread(target=serve, args=(theirs,))
    with theirs:
        thread.start()
        with ours:
            yield ours
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@contextmanager
def process(folder):
    """Start a worker process, wait until it is ready, and yield it with its socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    with theirs:
        command = [sys.executable, "-m", "node.worker.child", str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    with child:
        try:
            with ours:
                assert read_frame(ours) == Ready(torch_version=torch.__version__)
                yield ours, child
        finally:
            child.kill()


def test_tasks_are_answered_in_order(desk):
    tasks = [desk.task(round=number, args={"log_interval": 0}) for number in range(3)]

    with worker() as connection:
        assert read_frame(connection) == Ready(torch_version=torch.__version__)
        for task in tasks:
            write_frame(connection, task)
        answers = [read_frame(connection) for _ in tasks]

    assert [type(answer) for answer in answers] == [Done] * 3
    assert [answer.task_id for answer in answers] == [task.task_id for task in tasks]


def test_a_task_that_fails_is_told_and_the_next_one_is_done(desk):
    wrong, right = desk.task(model_path="/nowhere"), desk.task()

    with worker() as connection:
        read_frame(connection)
        write_frame(connection, wrong)
        failed = read_frame(connection)
        write_frame(connection, right)
        done = read_frame(connection)

    assert isinstance(done, Done)
    assert (failed.task_id, failed.code, failed.plan_line) == (wrong.task_id, "WRN-105", None)
    assert "InvalidTensorsError" in failed.detail


def test_only_what_is_public_is_told_about_a_mistake_of_the_plan(desk, tmp_path):
    source = desk.source.replace(
        "return nn.functional", 'raise KeyError("patient 4711")\n        return nn.functional'
    )
    line = source[: source.index("raise KeyError")].count("\n") + 1
    other = Desk(tmp_path, source)
    other.name = desk.name

    with worker() as connection:
        read_frame(connection)
        write_frame(connection, other.task())
        failed = read_frame(connection)

    assert failed == Failed(
        task_id=failed.task_id,
        code="WRN-504",
        text=f"KeyError at line {line} of the plan, in LogisticPlan.training_step",
        plan_line=line,
        detail=failed.detail,
    )
    assert "patient 4711" in failed.detail


def test_a_private_fact_stays_in_the_detail(desk):
    desk.table.unlink()

    with worker() as connection:
        read_frame(connection)
        write_frame(connection, desk.task())
        failed = read_frame(connection)

    assert (failed.code, failed.text) == ("WRN-402", "A registered data file is gone or was changed")
    assert "table.csv" in failed.detail


def test_an_error_that_nobody_foresaw_is_told_by_its_type(desk):
    with worker() as connection:
        read_frame(connection)
        write_frame(connection, desk.task(update_path="/nowhere/update.safetensors"))
        failed = read_frame(connection)

    assert (failed.code, failed.text) == ("WRN-608", "the worker met FileNotFoundError outside the plan")


def test_a_process_trains_and_ends_with_its_socket(desk):
    with process(desk.folder) as (connection, child):
        write_frame(connection, desk.task())
        while isinstance(answer := read_frame(connection), Progress):
            pass
        connection.close()

        assert child.wait(DEADLINE_S) == 0
    assert answer.samples_seen == 40


ENDLESS = """
import os
import torch
from common.data import DataManager
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    def init_model(self):
        return torch.nn.Linear(1, 1)

    def training_step(self, data, target):
        print("in the loop", flush=True)
        while True:
            pass

    def training_data(self):
        return DataManager([(torch.ones(1), torch.ones(1))])
"""


def test_a_process_in_the_middle_of_a_task_ends_when_its_agent_is_gone(tmp_path):
    desk = Desk(tmp_path, ENDLESS)
    desk.write_model()
    reading, writing = os.pipe()

    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    with theirs, os.fdopen(reading) as output:
        command = [sys.executable, "-m", "node.worker.child", str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=writing)
        os.close(writing)
        theirs.close()
        with child, ours:
            write_frame(ours, desk.task())
            assert isinstance(read_frame(ours), Ready)
            assert output.readline() == "in the loop\n"
            ours.close()

            assert child.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    "sent",
    [b"\0\0\0\x02{}", b'\0\0\0\x11{"kind":"nothing"}', (FRAME_BYTES + 1).to_bytes(4), b"\0\0\0\x01\xff"],
    ids=["empty", "unknown", "too long", "no text"],
)
def test_an_agent_believes_no_frame_that_is_not_one(sent):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)

        with pytest.raises(MalformedMessageError):
            read_frame(ours)


@pytest.mark.parametrize(
    "sent", [b"", b"\0\0", b"\0\0\0\x09{"], ids=["nothing", "half a length", "half a frame"]
)
def test_a_worker_that_went_away_has_nothing_more_to_say(sent):
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(sent)

        assert read_frame(ours) is None
