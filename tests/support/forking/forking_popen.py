"""Start processes of ours by a fork of one that has imported everything already, and others as ever; see `server.py`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

VARIABLE = "WARREN_TEST_FORKS_AT"
"""Holds the path of the server's socket."""
FORKED = {
    "deploy.demo.agents",
    "node.gui.errand_process",
    "node.process",
    "node.sandbox.probe",
    "node.worker.child",
    "tests.faults.researcher_process",
}
"""What is forked if it is started as `python OPTION ... -m MODULE ARGUMENT ...`."""
NUMBER = 8
"""Bytes of what the server says: a process id, and when it has ended its wait status."""


class Popen(subprocess.Popen):
    """A process like any other, save that it may be a child of the server, which then tells how it ended."""

    _server: socket.socket | None = None

    def _execute_child(self, args: Any, *more: Any) -> None:
        if not _is_ours(args):
            super()._execute_child(args, *more)
            return
        pass_fds, folder, environment = more[3:6]  # this order is that of Python 3.11 to 3.13
        ends = more[9:15]
        streams = [end if end != -1 else number for number, end in enumerate((ends[0], ends[3], ends[5]))]
        order = {
            "command": [*map(str, args)],
            "shown": [*map(str, args), asked_by(os.getpid())],
            "folder": os.fspath(folder or os.getcwd()),  # noqa: PTH109 - a text
            "environment": dict(os.environ if environment is None else environment),
            "numbers": [0, 1, 2, *pass_fds],
        }
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(os.environ[VARIABLE])
        socket.send_fds(self._server, [json.dumps(order).encode()], [*streams, *pass_fds])
        self.pid = int.from_bytes(self._server.recv(NUMBER), "big")
        self._child_created = True
        self._close_pipe_fds(*ends)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._server is None:
            return super()._try_wait(wait_flags)
        try:
            told = self._server.recv(NUMBER, socket.MSG_DONTWAIT if wait_flags else 0)
        except BlockingIOError:
            return 0, 0
        self._server.close()
        return self.pid, int.from_bytes(told, "big") if told else signal.SIGKILL  # with the server

    def _internal_poll(self, _deadstate: Any = None, **functions: Any) -> int | None:
        if self._server is None:
            return super()._internal_poll(_deadstate, **functions)
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def asked_by(pid: int) -> str:
    """Return what the command of a fork ends with, in lists of processes."""
    return f"asked for by {pid}"


def _is_ours(command: Any) -> bool:
    if not isinstance(command, list | tuple) or command[0] != sys.executable or "-m" not in command:
        return False
    return command[command.index("-m") + 1] in FORKED
