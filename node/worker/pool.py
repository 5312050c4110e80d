"""Keep warm worker processes: one for each run, spawned once, so that torch and the data are loaded once.

A worker gets a scrubbed environment, no standard input, and one inherited socket; it has neither kit nor broker credentials.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common.errors import MalformedMessageError, WorkerDiedError
from common.ids import RunId, TaskId
from node.worker.protocol import Done, Failed, FromWorker, Progress, Ready, RunTask, read_frame, write_frame

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSaid:
    """A worker reported something about its task."""

    worker: Worker
    report: FromWorker


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker process is gone; `task_id` is what it was working on, if anything."""

    worker: Worker
    task_id: TaskId | None
    error: WorkerDiedError


WorkerEvent = WorkerSaid | WorkerEnded


class Worker:
    """One worker process and the thread that listens to it."""

    def __init__(
        self,
        run_id: RunId,
        folder: Path,
        output: IO[bytes],
        threads: int | None,
        post: Callable[[WorkerEvent], None],
    ) -> None:
        """Spawn the process; it imports torch and then says that it is ready."""
        self.run_id = run_id
        self.folder = folder
        self.task: RunTask | None = None
        self.ready = False
        self._post = post
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "node.worker.child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=_environment(folder, threads),
                start_new_session=True,
            )
        self._socket = ours
        self._thread = threading.Thread(target=self._listen, name=f"worker-{self._process.pid}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def give(self, task: RunTask) -> None:
        """Hand over a task; the answer comes as an event."""
        self.task = task
        # A broken pipe means that the process is gone; the listening thread sees that too and says why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            write_frame(self._socket, task)

    def stop(self) -> None:
        """Kill the process with everything it started; it has nothing to lose that is not on disk."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._thread.join()

    def _listen(self) -> None:
        with self._socket:
            try:
                while (report := read_frame(self._socket)) is not None:
                    self._post(WorkerSaid(self, report))
            except MalformedMessageError as error:
                log.warning("worker misbehaved", extra={"action": "worker_killed", "error": str(error)})
                os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        task = self.task
        step = "start" if not self.ready else "a task" if task else "idling"
        death = WorkerDiedError(status=_status(status), step=step)
        self._post(WorkerEnded(self, task.task_id if task else None, death))


class WorkerPool:
    """The workers of a node; used by the agent's own thread only."""

    def __init__(
        self,
        work: Path,
        log_file: Path,
        *,
        post: Callable[[WorkerEvent], None],
        max_idle: int,
        threads: int | None = None,
    ) -> None:
        """Make an empty pool.

        Args:
            work: Folder in which each run gets a scratch folder.
            log_file: Where workers' output goes.
            post: Called on other threads with what workers say.
            max_idle: Warm workers without a task that are kept.
            threads: CPU threads of one worker; torch's own choice if not given.
        """
        self._work = work
        self._output = log_file.open("ab")
        self._post = post
        self._max_idle = max_idle
        self._threads = threads
        self._workers: dict[RunId, Worker] = {}

    def folder(self, run_id: RunId) -> Path:
        """Return the scratch folder of a run, making it if need be."""
        folder = self._work / run_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def give(self, run_id: RunId, task: RunTask) -> None:
        """Hand a task to the worker of its run, spawning it first if there is none."""
        worker = self._workers.pop(run_id, None)
        if worker is None:
            self._make_room()
            worker = Worker(run_id, self.folder(run_id), self._output, self._threads, self._post)
            log.info("worker started", extra={"action": "worker_started", "run": run_id, "pid": worker.pid})
        self._workers[run_id] = worker  # last in order: most recently used
        worker.give(task)

    def is_warm(self, run_id: RunId) -> bool:
        """Tell whether the run has a worker that has loaded everything it needs to start."""
        worker = self._workers.get(run_id)
        return worker is not None and worker.ready

    def heard(self, event: WorkerEvent) -> bool:
        """Take note of what a worker said, and tell whether it still counts."""
        worker = event.worker
        if self._workers.get(worker.run_id) is not worker:
            return False
        if isinstance(event, WorkerEnded):
            del self._workers[worker.run_id]
            return True
        match event.report:
            case Ready():
                worker.ready = True
            case Done() | Failed() as report:
                if worker.task is None or worker.task.task_id != report.task_id:
                    return False
                worker.task = None
            case Progress():
                pass
        return True

    def retire(self, run_id: RunId) -> None:
        """Stop the worker of a run, whatever it does, and remove its scratch folder."""
        worker = self._workers.pop(run_id, None)
        if worker is not None:
            worker.stop()
        if (folder := self._work / run_id).exists():
            shutil.rmtree(folder)

    def close(self) -> None:
        """Stop all workers; scratch folders stay for the next start."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()
        self._output.close()

    def _make_room(self) -> None:
        idle = [run_id for run_id, worker in self._workers.items() if worker.task is None]
        for run_id in idle[: max(0, len(idle) - self._max_idle + 1)]:
            self.retire(run_id)


def _environment(folder: Path, threads: int | None) -> dict[str, str]:
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
