"""Processes that tests fork are what they would be if they were spawned."""

import os
import signal
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


def test_it_can_be_seen_and_killed(forked_processes, tmp_path):
    with subprocess.Popen([*ERRAND, "HOME"], stdin=subprocess.PIPE, cwd=tmp_path) as errand:
        seen = psutil.Process(errand.pid)
        assert None is errand.poll()
        assert asked_by(os.getpid()) in seen.cmdline()
        assert ERRAND == seen.cmdline()[: len(ERRAND)]
        errand.kill()
        assert -signal.SIGKILL == errand.wait(DEADLINE_S)


def test_what_is_not_on_the_list_is_spawned(forked_processes):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert os.getpid() == psutil.Process(other.pid).ppid()
