"""The worker process answers every task, and lives no longer than its agent."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import MalformedMessageError
from common.training_plans import FedSGDClassifier, FedXGBClassifier
from node.sandbox import Limits, ProtectionName, Protections, SandboxPolicy
from node.worker.child import serve
from node.worker.protocol import (
    REPORT_BYTES,
    Failed,
    Made,
    Progress,
    Ready,
    Unprotected,
)
from node.worker.wire import read_report, write_order, write_policy
from tests.support.tasks import Desk

DEADLINE_S = 60.0
NO_WALLS = Protections(items=())


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    made.write_model()
    return made


CHATTY = """
import torch
from common.data import DataManager
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    def init_model(self):
        return torch.nn.Linear(1, 1)

    def training_step(self, data, target):
        return self.model()(data).sum()

    def testing_step(self, data, target):
        return {f"metric {number}": 1.0 for number in range(20_000)}

    def training_data(self):
        return DataManager([(torch.ones(1), torch.ones(1))] * 4)
"""


@contextmanager
def worker():
    """Serve one end of a socket in this process and yield the other."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    thread = threading.Thread(target=serve, args=(theirs, NO_WALLS))
    with theirs:
        thread.start()
        with ours:
            yield ours
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@contextmanager
def process(folder, **policy):
    """Start a worker process that writes to a folder, tell it how to shut itself in, and yield it with its socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    with theirs:
        command = [sys.executable, "-P", "-s", "-m", "node.worker.child", str(theirs.fileno())]
        variables = os.environ | {"TMPDIR": str(folder)}  # as the pool does
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, env=variables)
    with child:
        try:
            with ours:
                write_policy(ours, SandboxPolicy(agent_pid=os.getpid(), scratch=folder, **policy))
                yield ours, child
        finally:
            child.kill()


def test_tasks_are_answered_in_order(desk):
    tasks = [desk.task(round=number, args={"log_interval": 0}) for number in range(3)]

    with worker() as connection:
        assert read_report(connection) == Ready(torch_version=torch.__version__, stands=NO_WALLS)
        for task in tasks:
            write_order(connection, task)
        reports = iter(lambda: read_report(connection), None)  # a slow machine tells of progress too
        answers = list(islice((one for one in reports if not isinstance(one, Progress)), len(tasks)))

    assert [type(answer) for answer in answers] == [Made] * 3
    assert [answer.done.task_id for answer in answers] == [task.task.task_id for task in tasks]


def test_a_task_that_fails_is_told_and_the_next_one_is_done(desk):
    wrong, right = desk.task(model=Path("/nowhere")), desk.task()

    with worker() as connection:
        read_report(connection)
        write_order(connection, wrong)
        failed = read_report(connection)
        write_order(connection, right)
        done = read_report(connection)

    assert isinstance(done, Made)
    assert (failed.task_id, failed.code, failed.plan_line) == (wrong.task.task_id, "WRN-105", None)
    assert "InvalidTensorsError" in failed.detail


def test_only_what_is_public_is_told_about_a_mistake_of_the_plan(desk, tmp_path):
    source = desk.source.replace(
        "return nn.functional", 'raise KeyError("patient 4711")\n        return nn.functional'
    )
    line = source[: source.index("raise KeyError")].count("\n") + 1
    other = Desk(tmp_path, source)
    other.name = desk.name

    with worker() as connection:
        read_report(connection)
        write_order(connection, other.task())
        failed = read_report(connection)

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
        read_report(connection)
        write_order(connection, desk.task())
        failed = read_report(connection)

    assert (failed.code, failed.text) == ("WRN-402", "A registered data file is gone or was changed")
    assert "table.csv" in failed.detail


def test_an_error_that_nobody_foresaw_is_told_by_its_type(desk):
    with worker() as connection:
        read_report(connection)
        write_order(connection, desk.task(update_path="/nowhere/update.safetensors", encoding="fp16"))
        failed = read_report(connection)

    assert (failed.code, failed.text) == ("WRN-608", "the worker met FileNotFoundError outside the plan")


def test_a_process_trains_and_ends_with_its_socket(desk):
    with process(desk.folder) as (connection, child):
        ready = read_report(connection)
        write_order(connection, desk.task())
        while isinstance(answer := read_report(connection), Progress):
            pass
        connection.close()

        assert child.wait(DEADLINE_S) == 0
    assert answer.done.samples_seen == 40
    assert ready.stands[ProtectionName.PRIVILEGES].active


class SklearnPlan(FedSGDClassifier):
    """Tell two classes apart with an estimator of scikit-learn."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y"), batch_size=8)


class TreePlan(FedXGBClassifier):
    """Tell two classes apart with trees of xgboost."""

    def training_data(self):
        return DataManager(TabularDataset(["a", "b", "c"], "y"), batch_size=8)


def test_a_process_behind_its_walls_trains_with_scikit_learn_and_xgboost(tmp_path):
    arguments = {"n_features": 3, "n_classes": 2}
    with process(tmp_path, limits=Limits(threads=64, memory_bytes=2 * 1024**3)) as (connection, child):
        ready = read_report(connection)
        for plan in (SklearnPlan, TreePlan):
            desk = Desk(tmp_path, plan)
            desk.write_model(**arguments)
            args = {"epochs": 1, "num_updates": None}
            write_order(connection, desk.task(args=args, model_args=arguments))
            while isinstance(answer := read_report(connection), Progress):
                pass
            assert isinstance(answer, Made), answer
            assert answer.done.samples_seen == 40
        connection.close()

        assert child.wait(DEADLINE_S) == 0
    assert ready.stands[ProtectionName.SYSTEM_CALLS].active


def test_a_process_without_a_compulsory_protection_says_so_and_ends(desk):
    with process(desk.folder, compulsory={ProtectionName.MEMORY}) as (connection, child):
        told = read_report(connection)

        assert child.wait(DEADLINE_S) == 0
    assert (told.protection, told.reason) == ("memory", "no bound is set")
    assert isinstance(told, Unprotected)
    assert told.advice


def test_a_report_that_does_not_fit_into_a_message_fails_its_task(tmp_path):
    desk = Desk(tmp_path, CHATTY)
    desk.write_model()

    with worker() as connection:
        read_report(connection)
        write_order(connection, desk.task(args={"test_ratio": 0.5, "test_on_global_updates": True}))
        failed = read_report(connection)

    assert (failed.code, failed.plan_line) == ("WRN-103", None)


ENDLESS = """
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

    with process(desk.folder) as (connection, child):
        assert isinstance(read_report(connection), Ready)
        write_order(connection, desk.task())
        assert child.stdout.readline() == b"in the loop\n"
        connection.close()

        assert child.wait(DEADLINE_S) == 0


def test_a_process_whose_agent_is_gone_before_it_began_ends(tmp_path):
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-P", "-s", "-m", "node.worker.child", str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    ours.close()

    with child:
        assert child.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    "sent",
    [b"{}", b'{"kind":"nothing"}', bytes(REPORT_BYTES + 1), b"\xff"],
    ids=["empty", "unknown", "too long", "no text"],
)
def test_an_agent_believes_no_frame_that_is_not_one(sent):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(len(sent).to_bytes(4) + bytes(8) + sent[:REPORT_BYTES])
        theirs.shutdown(socket.SHUT_WR)

        with pytest.raises(MalformedMessageError):
            read_report(ours)


@pytest.mark.parametrize(
    "sent",
    [b"", bytes(2), b"\0\0\0\x09" + bytes(8) + b"{"],
    ids=["nothing", "half a length", "half a frame"],
)
def test_a_worker_that_went_away_has_nothing_more_to_say(sent):
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(sent)

        assert read_report(ours) is None
