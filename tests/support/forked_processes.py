"""Let agents, workers, errands and the researchers of tests/faults be forked and not spawned: 30 ms of CPU instead of up to 2.5 s.

See `forking/server.py` for what a fork has in common with a spawned process, which is nearly all, and what not. Tests about the walls
of workers, about starting, and about what the kernel does when a parent dies use spawned ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.forking.forking_popen import VARIABLE, Popen

_FOLDER = Path(__file__).parent / "forking"
_PADDING = "." * 4000
"""Where forked processes write their commands for lists of processes."""


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a process that has imported everything, which all tests share."""
    path = tmp_path_factory.mktemp("forks") / "socket"
    command = [sys.executable, "-P", "-s", str(_FOLDER / "server.py"), str(path), _PADDING]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}  # as workers have it
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as server:
        assert b"ready\n" == server.stdout.readline()
        yield path
        server.stdin.close()


@pytest.fixture
def forked_processes(fork_server: Path) -> Iterator[None]:
    """Fork what can be forked during a test."""
    with _forking(fork_server):
        yield


@pytest.fixture(scope="module")
def forked_for_all(fork_server: Path) -> Iterator[None]:
    """Fork what can be forked during the tests of a module, which share what they start."""
    with _forking(fork_server):
        yield


@contextmanager
def _forking(fork_server: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(fork_server))
        patch.setenv("PYTHONPATH", str(_FOLDER), prepend=os.pathsep)
        patch.setattr(subprocess, "Popen", Popen)
        yield
