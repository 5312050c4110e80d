"""What the people of a node do with its agent: start it, stop it, see how it is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.audit.record import Action, Entry
from common.security.kit import fingerprint
from node.gui.beside import beside
from node.gui.listen import Listen
from node.home import NodeHome
from node.process import HomeReport, StopOutcome, report, run_agent, start_background, stop


@dataclass(frozen=True, slots=True)
class Restarted:
    """What became of the agent that ran, and the process that runs now."""

    outcome: StopOutcome
    pid: int


@dataclass(frozen=True, slots=True)
class AgentControl:
    """The agent of a node, in the hands of one person.

    Attributes:
        home: The node.
        by: The name of the person, for the audit log.
    """

    home: NodeHome
    by: str

    @classmethod
    def install(cls, path: Path, kit: Path, *, by: str) -> AgentControl:
        """Put a kit into a home, new or not, and record that; return what controls its agent.

        Raises:
            FederationError: If kit or home cannot be used; see `NodeHome.create`.
        """
        home = NodeHome.create(path, kit)
        made = cls(home, by)
        digest = fingerprint(home.kit(now=time.time()).certificate)
        home.audit().append(made._entry(Action.KIT_INSTALLED).model_copy(update={"digest": digest}))
        return made

    def report(self) -> HomeReport:
        """Find out how the node is doing, without asking its agent.

        Raises:
            WarrenError: If its settings or databases cannot be read.
        """
        return report(self.home)

    def run(self, *, ready: Callable[[], None], page: Listen | None = None, terminal: bool) -> None:
        """Run the agent in this process until it is told to stop, and its page beside it; see `node.process.run_agent`.

        Args:
            ready: Called once the agent runs.
            page: Where its web page is served; None for no page.
            terminal: Whether a person reads what the page prints; see `node.gui.beside`.

        Raises:
            WarrenError: As `run_agent` does.
        """
        with beside(self.home, page, terminal=terminal):
            run_agent(self.home, ready=ready)

    def start(self, *, level: str = "INFO", page: Listen | None = None) -> int:
        """Start the agent in the background, and return its process id when it is ready.

        Args:
            level: Where its log begins.
            page: Where its web page is served; None for no page.

        Raises:
            HomeInUseError: If an agent runs already.
            AgentStartError: If it ended or failed before it was ready.
            WarrenError: If kit or settings cannot be used.
        """
        agent = start_background(self.home, level=level, page=page)
        # the starter may live as long as the agent, a web page does; somebody must take note of the end of its child
        threading.Thread(target=agent.wait, name="agent's end", daemon=True).start()
        self._record(Action.AGENT_START_ASKED, f"process {agent.pid}")
        return agent.pid

    def stop(self) -> StopOutcome:
        """Record that somebody wants the agent to stop, if there is one, and stop it; a task in work is done again after the next start.

        It is recorded first: where a service manager runs the agent, this process may end with it.

        Raises:
            InvalidSettingsError: If the settings of the node are wrong.
            AuditBrokenError: If it cannot be recorded; it is stopped all the same.
        """
        pid = self.home.holder()
        if pid is None:
            return "was not running"
        try:
            self._record(Action.AGENT_STOP_ASKED, f"process {pid}")
        finally:
            outcome = stop(self.home)
        return outcome

    def restart(self, *, page: Listen | None = None) -> Restarted:
        """Stop the agent if one runs, and start it in the background; it goes on from its journal.

        Raises:
            InvalidSettingsError: If the settings of the node are wrong; an agent that runs is left alone.
            WarrenError: As `stop` and `start` do.
        """
        self.home.policy()
        outcome = self.stop()
        return Restarted(outcome, self.start(page=page))

    def log_tail(self, lines: int) -> tuple[str, ...] | None:
        """Return the last lines of the agent's log, each a JSON object; None if it never ran."""
        if not self.home.log_path.exists():
            return None
        with self.home.log_path.open(encoding="utf-8", errors="replace") as file:
            return tuple(line.rstrip("\n") for line in deque(file, maxlen=lines))

    def _record(self, action: Action, note: str) -> None:
        self.home.audit().append(self._entry(action).model_copy(update={"note": note}))

    def _entry(self, action: Action) -> Entry:
        return Entry(action=action, actor=f"person {self.by}")
