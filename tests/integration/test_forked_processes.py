"""Processes that tests fork are what they would be if they were spawned."""

import os
import signal
import socket
import subprocess
import sys

import psutil

from node.sandbox.probe import detect
from tests.support.forking.forking_popen import asked_by

ERRAND = [sys.executable, "-P", "-m", "node.gui.errand_process"]
DEADLINE_S = 60


def test_the_same_walls_stand(request):
    spawned = detect()

    request.getfixturevalue("forked_processes")

    assert spawned == detect()


def test_how_it_ended_and_what_it_said_comes_back(forked_processes, tmp_path):
    done = subprocess.run([*ERRAND, tmp_path / "none"], capture_output=True, text=True, timeout=DEADLINE_S)

    assert 1 == done.returncode
    assert "WRN-" in done.stderr.splitlines()[-1]


def test_it_can_be_seen_and_killed(forked_processes):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-P", "-s", "-m", "node.worker.child", str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as worker:  # waits for its orders
            shown = psutil.Process(worker.pid).cmdline()
            assert [*command, asked_by(os.getpid())] == shown[: len(command) + 1]
            assert None is worker.poll()
            os.killpg(worker.pid, signal.SIGKILL)
            assert -signal.SIGKILL == worker.wait(DEADLINE_S)


def test_what_is_not_on_the_list_is_spawned(forked_processes):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert os.getpid() == psutil.Process(other.pid).ppid()
