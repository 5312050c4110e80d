"""Run the agent of a home as a process: in the foreground, in the background, asked how it is, and stopped.

`python -m node.process HOME FD LEVEL PAGE` is the background process itself; it says on the file descriptor FD what came of its start.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from common import logs
from common.allocator import keep_freed_memory
from common.errors import AgentStartError, FederationError, HomeInUseError, WarrenError
from common.messages import PlanState
from node.approval import Approvals
from node.gui.beside import beside
from node.gui.listen import Listen
from node.home import NodeHome
from node.hours import WorkingHours
from node.journal import Journal
from node.registry import Registry
from node.status import AgentStatus, read_status
from node.task_events import (
    Phase,
)

log = logging.getLogger("node.process")  # also when this file is the main program

_READY: Final = b"ready"
_STOP_GRACES: Final = 5
"""An agent may take this many times the grace of a worker to stop: it ends its workers, then itself."""

StopOutcome = Literal["was not running", "stopped", "killed"]


@dataclass(frozen=True, slots=True)
class HomeReport:
    """How a node is doing, seen from outside its agent.

    Attributes:
        party: The node.
        federation: Its federation.
        pid: The agent's process; None if none runs.
        status: What the agent said last; None if none runs.
        kit_problem: Why the kit cannot be used; None if it can.
        kit_days_left: Days until the kit expires; None if it cannot be used.
        datasets: Registered data sets.
        changed: Names of watched data sets that changed and that nobody has looked at since.
        plans_pending: Plans that wait for a decision.
        waiting: Tasks that wait for their model or for a worker.
        running: Tasks in work.
        unsent: Tasks whose reply the broker does not have yet.
        rests_until: Unix time at which tasks begin again, outside of the node's working hours; None within.
    """

    party: str
    federation: str
    pid: int | None
    status: AgentStatus | None
    kit_problem: str | None
    kit_days_left: float | None
    datasets: int
    changed: tuple[str, ...]
    plans_pending: int
    waiting: int
    running: int
    unsent: int
    rests_until: float | None


def run_agent(home: NodeHome, *, ready: Callable[[], None]) -> None:
    """Run the agent in this process until SIGTERM or SIGINT; a second signal ends it the hard way.

    Must be called on the main thread, which receives signals.

    Args:
        home: Its home, held as long as it runs.
        ready: Called once when the agent has recovered its journal and begun to connect.

    Raises:
        HomeInUseError: If another agent runs in this home.
        WarrenError: If kit, settings or databases cannot be used.
    """
    from node.agent import build  # slow to import, and only here needed

    keep_freed_memory()
    with home.lock():
        agent = build(home)
        _on_signal(agent.stop)
        log.info("agent starts", extra={"action": "agent_start", "home": str(home.path), "pid": os.getpid()})
        agent.run(on_started=ready)
        log.info("agent stopped", extra={"action": "agent_stopped"})


def start_background(
    home: NodeHome, *, level: str = "INFO", page: Listen | None = None
) -> subprocess.Popen[bytes]:
    """Start the agent in a process of its own session and return when it is ready.

    What it writes to its standard streams goes to `log/agent.out`; its log begins at `level`; `page` says where its web page is
    served, if anywhere.

    Raises:
        HomeInUseError: If an agent runs already.
        WarrenError: If kit or settings cannot be used.
        AgentStartError: If the agent ended or failed before it was ready.
    """
    holder = home.holder()
    if holder is not None:
        raise HomeInUseError(path=home.path, pid=holder)
    home.kit()
    home.policy()
    shown = "" if page is None else page.model_dump_json()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as answer, (home.log / "agent.out").open("ab") as output:
        try:
            agent = subprocess.Popen(
                [sys.executable, "-P", "-m", "node.process", str(home.path), str(writer), level, shown],
                pass_fds=(writer,),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(writer)
        told = answer.read()  # until the agent closes its end, or dies
    if told != _READY:
        ended = f"it ended with status {agent.wait()}"
        raise AgentStartError(path=home.path, reason=told.decode() or ended, log=home.log / "agent.out")
    return agent


def stop(home: NodeHome) -> StopOutcome:
    """Ask the agent of a home to stop, wait for it, and kill it if it does not; a task in work is done again after the next start.

    Raises:
        InvalidSettingsError: If the connection settings of the kit are wrong.
    """
    grace_s = _STOP_GRACES * home.connection().timeouts.stop_s
    pid = home.holder()
    if pid is None:
        return "was not running"
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return "was not running"
    try:
        if home.holder() != pid:  # it ended meanwhile, and the number may be somebody else's now
            return "was not running"
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if _ended(process, grace_s):
            return "stopped"
        signal.pidfd_send_signal(process, signal.SIGKILL)
        _ended(process, None)
    except ProcessLookupError:
        return "stopped"
    finally:
        os.close(process)
    return "killed"


def report(home: NodeHome) -> HomeReport:
    """Find out how a node is doing, without asking its agent.

    Raises:
        WarrenError: If its settings or databases cannot be read.
    """
    connection = home.connection()
    pid = home.holder()
    problem, days_left = _kit_state(home)
    hours, now = WorkingHours(home.policy().working_hours), time.time()
    registry, approvals = Registry(home.registry_path), Approvals(home.registry_path)
    journal = Journal(home.journal_path)
    try:
        phases = Counter(record.phase for record in journal.open_tasks())
        datasets = registry.list()
        return HomeReport(
            party=connection.party,
            federation=connection.federation,
            pid=pid,
            status=None if pid is None else read_status(home.status_path),
            kit_problem=problem,
            kit_days_left=days_left,
            datasets=len(datasets),
            changed=tuple(dataset.name for dataset in datasets if dataset.changed_at is not None),
            plans_pending=sum(plan.state is PlanState.PENDING for plan in approvals.list()),
            waiting=phases[Phase.RECEIVED] + phases[Phase.WAITING],
            running=phases[Phase.RUNNING],
            unsent=phases[Phase.ANSWERED],
            rests_until=None if hours.open(now) else hours.changes_at(now),
        )
    finally:
        registry.close()
        approvals.close()
        journal.close()


def _kit_state(home: NodeHome) -> tuple[str | None, float | None]:
    """Return what is wrong with the kit, or the days until it expires."""
    now = time.time()
    try:
        return None, home.kit(now=now).days_left(now)
    except FederationError as error:
        return str(error), None


def _on_signal(stop_agent: Callable[[], None]) -> None:
    """Call `stop_agent` on a thread of its own when SIGTERM or SIGINT comes.

    A signal handler interrupts the main thread anywhere, so it must not take locks; writing to a pipe is all that happens there.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def wait() -> None:
        os.read(reader, 1)
        log.info("asked to stop", extra={"action": "stop_asked"})
        stop_agent()

    def end_hard_next_time(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)

    threading.Thread(target=wait, name="signals", daemon=True).start()
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_hard_next_time)


def _ended(process: int, timeout_s: float | None) -> bool:
    """Wait until the process behind a pidfd has ended; return whether it did in time."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def _serve(path: Path, descriptor: int, level: str, shown: str) -> int:
    """Be the background process; return its exit code."""
    home = NodeHome.open(path)
    logs.configure(level, file=home.log_path, stream=None)
    page = Listen.model_validate_json(shown) if shown else None
    with beside(home, page), os.fdopen(descriptor, "wb") as answer:

        def ready() -> None:
            answer.write(_READY)
            answer.close()

        try:
            run_agent(home, ready=ready)
        except WarrenError as error:
            log.critical("agent ended by an error", extra={"action": "agent_failed", "error": str(error)})
            if not answer.closed:
                answer.write(str(error).encode())
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(_serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
