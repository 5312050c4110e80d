"""Let real agents use workers that are threads of this process: the same code and socket, without walls and without importing torch again.

For tests whose promise is about the agent. They must not use plans that never end, for a thread cannot be killed, and must not compare
models with what this process trains itself: random generators are global, and a thread may still be at the task of the test before.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from typing import Any

import pytest

from node.sandbox import Protection, ProtectionName, Protections
from node.worker import pool, session
from node.worker.child import serve
from node.worker.wire import read_policy

_ONE_AT_A_TIME = threading.Lock()
"""Random generators are global."""

_NO_WALLS = Protections.collect(
    Protection(name=name, active=False, detail="a thread has no walls") for name in ProtectionName
)


class _TakesTurns(session.Session):
    def run(self, *arguments: Any) -> Any:
        with _ONE_AT_A_TIME:
            return super().run(*arguments)


def _spawn(theirs: socket.socket, *_: object) -> subprocess.Popen[bytes]:
    """Start the thread, and a process for the agent to kill, which ends with this one; the worker hears no more when it is gone."""
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, start_new_session=True)
    connection = theirs.dup()

    def work() -> None:
        try:
            with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                read_policy(connection)
                serve(connection, _NO_WALLS)
        finally:
            process.kill()

    def end() -> None:
        process.wait()
        process.stdin.close()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    for one in (work, end):
        threading.Thread(target=one, name=f"quick-worker-{process.pid}", daemon=True).start()
    return process


@pytest.fixture
def quick_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every worker that is spawned during the test a thread."""
    monkeypatch.setattr(pool, "_spawn", _spawn)
    monkeypatch.setattr(session, "Session", _TakesTurns)
