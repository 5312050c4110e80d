"""Keep warm worker processes: one for each run, spawned once, so that torch and the data are loaded once.

A worker gets a scrubbed environment, no standard input, one inherited socket and a pipe for its output; it shuts itself in
before it loads a plan, so that it reaches neither kit nor network nor any file but its own.
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
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from common.errors import MalformedMessageError, WorkerDiedError
from common.ids import RunId, TaskId
from node.gpus import GpuOffer, device_files, environment
from node.sandbox import Limits, ProtectionName, SandboxPolicy, WorkerUser, remove_scratch
from node.worker.folder import RunFolder, let_in
from node.worker.harvest import Bounds, Harvest, harvest
from node.worker.output import WorkerLog
from node.worker.pace import Bucket
from node.worker.protocol import (
    REPORT_BYTES,
    Done,
    Failed,
    FromWorker,
    Made,
    Order,
    Progress,
    Ready,
    Unprotected,
)
from node.worker.wire import read_report, write_order, write_policy

log = logging.getLogger(__name__)

_REPORTS_BURST: Final = 16 * REPORT_BYTES
_REPORTS_PER_S: Final = 1024 * 1024
"""Bytes of JSON; a worker that says more has to wait, so that it cannot drown its agent. What it hands over beside that is bounded by
`HANDED_BYTES`, and comes once for each task or is the end of the worker."""
_UNREAD_BYTES: Final = 512 * 1024
"""What a worker may leave unread before its agent waits for it; the system may allow less."""
_LAST_WORDS_S: Final = 1.0
"""How long the output of a dead worker is waited for."""


@dataclass(frozen=True, slots=True)
class Walls:
    """What is put up around every worker of a node.

    Attributes:
        limits: What each may use up.
        compulsory: A worker does not run without these.
        hidden: What no data set may contain.
        user: Who workers become; the agent's user if not given.
        gpu: Whether GPUs are let through.
        gpu_device: Number of the only one that is.
    """

    limits: Limits
    compulsory: frozenset[ProtectionName]
    hidden: tuple[Path, ...]
    user: WorkerUser | None = None
    gpu: GpuOffer = "none"
    gpu_device: int | None = None

    def around(self, folder: RunFolder, *datasets: Path) -> SandboxPolicy:
        """Return what a worker with this folder and these data sets may do."""
        return SandboxPolicy(
            agent_pid=os.getpid(),
            scratch=folder.scratch,
            read_only=(*datasets, folder.inputs),
            devices=device_files(Path("/dev").iterdir(), self.gpu, self.gpu_device),
            hidden=self.hidden,
            limits=self.limits,
            user=self.user,
            compulsory=self.compulsory,
        )


@dataclass(frozen=True, slots=True)
class WorkerSaid:
    """A worker reported something about its task."""

    worker: Worker
    report: FromWorker
    harvest: Harvest | None = None
    """What the task made, if it is done."""


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker process is gone; `task_id` is what it was working on, if anything."""

    worker: Worker
    task_id: TaskId | None
    error: WorkerDiedError


WorkerEvent = WorkerSaid | WorkerEnded


class Worker:
    """One worker process and the threads that listen to it."""

    def __init__(
        self,
        run_id: RunId,
        folder: RunFolder,
        policy: SandboxPolicy,
        output: WorkerLog,
        variables: Mapping[str, str],
        post: Callable[[WorkerEvent], None],
        bounds: Bounds,
    ) -> None:
        """Spawn the process; it shuts itself in, imports torch, and then says that it is ready."""
        self.run_id = run_id
        self.folder = folder
        self.task_id: TaskId | None = None
        """The task that it has, until the agent has heard what came of it."""
        self.ready = False
        self._order: Order | None = None
        self._told = b""
        self._post = post
        self._bounds = bounds
        self._over = threading.Event()
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD_BYTES)
        reader, writer = os.pipe()
        with theirs, os.fdopen(writer, "wb") as printed:
            self._process = _spawn(theirs, printed, folder.scratch, variables)
        self._socket = ours
        name = f"worker-{self._process.pid}"
        self._output = threading.Thread(
            target=output.follow, args=(run_id, reader, self._over), name=f"{name}-output", daemon=True
        )
        self._thread = threading.Thread(target=self._listen, name=name, daemon=True)
        self._output.start()
        self._thread.start()
        with _unless_gone():
            write_policy(self._socket, policy)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def give(self, order: Order) -> None:
        """Hand over a task; the answer comes as an event."""
        self.task_id, self._order = order.task.task_id, order
        with _unless_gone():
            self._told = write_order(self._socket, order, self._told)

    def stop(self) -> None:
        """Kill the process with everything it started; it has nothing to lose that is not on disk."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._over.set()
        self._thread.join()
        self._output.join(_LAST_WORDS_S)

    def _harvest(self, made: Made) -> Harvest:
        order, self._order = self._order, None
        if order is None or order.task.task_id != made.done.task_id:
            raise MalformedMessageError(sender="the worker", reason="it is done with what it was not given")
        return harvest(self.folder, order, made, self._bounds)

    def _listen(self) -> None:
        heard = Bucket(_REPORTS_BURST, _REPORTS_PER_S)
        with self._socket:
            try:
                while report := read_report(self._socket, lambda size: heard.admit(size, self._over)):
                    if isinstance(report, Made):
                        self._post(WorkerSaid(self, report.done, self._harvest(report)))
                    else:
                        self._post(WorkerSaid(self, report))
            except MalformedMessageError as error:
                log.warning("worker misbehaved", extra={"action": "worker_killed", "error": str(error)})
                os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        self._over.set()
        task_id = self.task_id
        step = "start" if not self.ready else "a task" if task_id else "idling"
        death = WorkerDiedError(status=_status(status), step=step)
        self._post(WorkerEnded(self, task_id, death))


class WorkerPool:
    """The workers of a node; used by the agent's own thread only."""

    def __init__(
        self,
        work: Path,
        log_file: Path,
        *,
        post: Callable[[WorkerEvent], None],
        max_idle: int,
        walls: Walls,
        bounds: Bounds,
        threads: int | None = None,
    ) -> None:
        """Make an empty pool.

        Args:
            work: Folder in which each run gets a folder; what is in it is removed.
            log_file: Where workers' output goes.
            post: Called on other threads with what workers say.
            max_idle: Warm workers without a task that are kept.
            walls: What is put up around them.
            bounds: What an update may be.
            threads: CPU threads of one worker; torch's own choice if not given.
        """
        remove_scratch(work)
        work.mkdir(mode=0o700)
        self._user = walls.user if os.geteuid() == 0 else None  # nobody else may give files away
        if self._user is not None:
            let_in(work, self._user)
        self.work = work
        self._output = WorkerLog(log_file)
        self._post = post
        self._max_idle = max_idle
        self._walls = walls
        self._bounds = bounds
        self._threads = threads
        self._workers: dict[RunId, Worker] = {}
        self._datasets: dict[RunId, tuple[Path, ...]] = {}

    @property
    def free_bytes(self) -> int:
        """Return the space that is left on the disk that workers write to."""
        return shutil.disk_usage(self.work).free

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers."""
        return tuple(worker.pid for worker in self._workers.values())

    def folder(self, run_id: RunId, *datasets: Path) -> RunFolder:
        """Return the folder of a run, to put what its next task reads into it.

        A worker of the run that was shut in with other data sets is stopped: walls are never moved.
        """
        if self._datasets.get(run_id) != datasets:
            self.retire(run_id)
        folder = RunFolder(self.work / run_id, self._user)
        if run_id not in self._workers:
            folder.make()
            self._datasets[run_id] = datasets
        return folder

    def give(self, run_id: RunId, order: Order) -> None:
        """Hand a task to the worker of its run, spawning it first if there is none; `folder` was asked for before."""
        worker = self._workers.pop(run_id, None)
        if worker is None:
            self._make_room()
            folder = RunFolder(self.work / run_id, self._user)
            policy = self._walls.around(folder, *self._datasets[run_id])
            variables = environment(self._walls.gpu, self._walls.gpu_device)
            if self._threads is not None:
                variables["OMP_NUM_THREADS"] = str(self._threads)
            worker = Worker(run_id, folder, policy, self._output, variables, self._post, self._bounds)
            log.info("worker started", extra={"action": "worker_started", "run": run_id, "pid": worker.pid})
        self._workers[run_id] = worker  # last in order: most recently used
        worker.give(order)

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
            case Unprotected():
                del self._workers[worker.run_id]  # it ends by itself
            case Ready(stands=stands):
                worker.ready = True
                missing = [wall.name.value for wall in stands.items if not wall.active]
                log.info(
                    "worker ready", extra={"action": "worker_ready", "run": worker.run_id, "missing": missing}
                )
            case Done() | Failed() as report:
                if worker.task_id != report.task_id:
                    return False
                worker.task_id = None
            case Progress():
                pass
        return True

    def retire(self, run_id: RunId) -> None:
        """Stop the worker of a run, whatever it does, and remove its folder."""
        worker = self._workers.pop(run_id, None)
        self._datasets.pop(run_id, None)
        if worker is not None:
            worker.stop()
        remove_scratch(self.work / run_id)

    def close(self) -> None:
        """Stop all workers; their folders stay until the next start."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()
        self._output.close()

    def _make_room(self) -> None:
        idle = [run_id for run_id, worker in self._workers.items() if worker.task_id is None]
        for run_id in idle[: max(0, len(idle) - self._max_idle + 1)]:
            self.retire(run_id)


def _unless_gone() -> AbstractContextManager[None]:
    """Pass over that the process is gone; the thread that listens to it sees that too and says why."""
    return contextlib.suppress(BrokenPipeError, ConnectionResetError)


def _spawn(
    theirs: socket.socket, printed: IO[bytes], scratch: Path, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", "node.worker.child", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        cwd=scratch,
        env={**_environment(scratch), **variables},
        start_new_session=True,
    )


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "LOGNAME": "worker",  # MONAI asks for a name when it is imported, and no list of users can be read
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
    }


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
