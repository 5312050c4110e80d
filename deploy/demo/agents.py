"""Run the node agents of the demo: as processes that cannot outlive it, or as threads.

`python -m deploy.demo.agents HOME` is such a process. It loads everything, waits for a line on its standard input, and
then is an agent like any other, until its input ends. The kernel ends it when the demo dies, in whatever way.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from common import logs
from common.errors import AgentStartError, WarrenError
from common.settings import Timeouts
from common.transport.base import Transport
from node.home import NodeHome

log = logging.getLogger(__name__)

_STOP_S: Final = 5 * Timeouts().stop_s
"""Grace for an agent to say goodbye and end its workers."""


class AgentProcess:
    """An agent in a process of its own."""

    def __init__(self, home: NodeHome) -> None:
        """Start the process; it loads its modules and waits."""
        self._home = home
        self._output = home.log / "agent.out"
        self._begun = False
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "deploy.demo.agents", str(home.path)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its agents in order
            )

    def connect(self) -> None:
        """Let the agent begin.

        Raises:
            AgentStartError: If it has ended.
        """
        self.check()
        self._begun = True
        assert self._process.stdin is not None  # noqa: S101  it was asked for above
        with suppress(BrokenPipeError):  # `check` will tell
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def check(self) -> None:
        """Make sure that the agent has not ended.

        Raises:
            AgentStartError: If it has; says with which words.
        """
        status = self._process.poll()
        if status is not None:
            said = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = said[-1] if said else f"it ended with status {status}"
            raise AgentStartError(path=self._home.path, reason=reason, log=self._output)

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call a function, on another thread, when the agent has ended."""

        def wait() -> None:
            self._process.wait()
            on_end()

        threading.Thread(target=wait, name=f"watch-{self._process.pid}", daemon=True).start()

    def ask_to_stop(self) -> None:
        """Tell the agent to stop, without waiting for it; one that has not begun has nothing to put in order."""
        assert self._process.stdin is not None  # noqa: S101  it was asked for above
        if not self._begun:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def kill(self) -> None:
        """End the agent at once, as a power failure would; its workers end with it."""
        self._process.kill()
        self._process.wait()
        self.ask_to_stop()  # closes the pipe

    def stop(self) -> None:
        """Stop the agent, or kill it when it takes too long; its workers end with it. Idempotent."""
        self.ask_to_stop()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("agent did not stop in time, killing it", extra={"action": "agent_killed"})
            self._process.kill()
            self._process.wait()


class AgentThread:
    """An agent in a thread of this process."""

    def __init__(self, home: NodeHome, transport: Transport) -> None:
        """Prepare the agent."""
        from node.agent import build  # slow to import

        self._held = ExitStack()
        self._held.enter_context(home.lock())
        self._agent = build(home, transport=transport)
        self._thread = threading.Thread(target=self._agent.run, name=f"agent-{transport.party}", daemon=True)

    def connect(self) -> None:
        """Let the agent begin."""
        self._thread.start()

    def check(self) -> None:
        """Do nothing: a thread does not end by itself."""

    def watch(self, on_end: Callable[[], None]) -> None:
        """Do nothing, for the same reason."""

    def ask_to_stop(self) -> None:
        """Tell the agent to stop, without waiting for it."""
        self._agent.stop()

    def stop(self) -> None:
        """Stop the agent and its workers."""
        self._agent.stop()
        if self._thread.ident is None:
            self._agent.run()  # it finds that it should stop, and closes what it holds
        else:
            self._thread.join()
        self._held.close()


Agent = AgentProcess | AgentThread


def _serve(path: Path) -> int:
    """Be the process of one agent; return its exit code."""
    from node import agent  # noqa: F401  loaded while the broker boots
    from node.process import run_agent

    home = NodeHome.open(path)
    logs.configure(file=home.log_path, stream=None)
    if not sys.stdin.buffer.readline():
        return 0
    threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    try:
        run_agent(home, ready=lambda: None)
    except WarrenError as error:
        log.critical("agent ended by an error", extra={"action": "agent_failed", "error": str(error)})
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _end_with_input() -> None:
    """Stop this process in order when whoever started it is gone or wants that."""
    os.read(
        sys.stdin.fileno(), 1
    )  # not through the buffer, whose lock would be held when the interpreter ends
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(_serve(Path(sys.argv[1])))
