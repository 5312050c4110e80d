"""Run an experiment of real processes while killing them, and measure how long each kill holds it up."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import psutil

from common.ids import PartyId
from tests.faults.researcher_process import Script
from tests.support.forking.forking_popen import asked_by
from tests.support.world import World

KINDS = ("agent", "worker", "researcher", "broker", "everything")
PATIENCE_S = 150.0
"""Longest silence of the researcher's script before the trial counts as stuck."""
MOST_FAILURES = 10
"""The script may end with an error so often in one trial, for it may meet a broker that is down."""


@dataclass(frozen=True)
class Told:
    """One line that the researcher's script wrote; `Ended` with its exit status when it is gone."""

    at: float
    kind: str
    facts: dict[str, Any]

    @property
    def round(self) -> int:
        return self.facts.get("round") or 0

    @property
    def node(self) -> str | None:
        return self.facts.get("node")


class ResearcherProcess:
    """The script of a researcher, started again and again, and all that it tells."""

    def __init__(self, home: Path, script: Script) -> None:
        self.told: SimpleQueue[Told] = SimpleQueue()
        self.errors = home.with_name("researcher.err")  # not on the disk of the home, which may be full
        self._command = [sys.executable, "-m", "tests.faults.researcher_process", str(home)]
        self._command.append(json.dumps(asdict(script)))
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
        if self._reader is not None:
            self._reader.join()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                facts = json.loads(line)
                self.told.put(Told(time.monotonic(), facts["kind"], facts))
        self.told.put(Told(time.monotonic(), "Ended", {"status": process.wait()}))


@dataclass(frozen=True)
class Kill:
    """One kill; `back_s` is the time until the round went on, None if nothing waited for that."""

    kind: str
    party: str
    round: int
    back_s: float | None


@dataclass
class Ordeal:
    """One experiment, from its first round to its last, whatever is killed meanwhile."""

    world: World
    script: Script
    rng: random.Random
    kills: list[Kill] = field(default_factory=list)
    failures: int = 0
    """Times that the script ended with an error and was started again, as a user would."""

    watch: Callable[[Told], None] = lambda told: None
    """Called with each line that the script wrote, for those who break other things."""

    def __post_init__(self) -> None:
        self.researcher = ResearcherProcess(self.world.researcher_home, self.script)
        self._round = 0
        self._answered: set[str | None] = set()  # nodes that have nothing more to do in this round
        self._ended = False

    def run(self, targets: Sequence[str] = (), *, spread_s: float = 1.0, hasty: float = 0.4) -> Ordeal:
        """Run to the last round, with these kills on the way.

        Args:
            targets: What to kill, in this order, spread over the rounds.
            spread_s: Longest delay between a sign of life of the round and a kill.
            hasty: Share of the kills after which the next does not wait for the round to go on. A node that has answered holds
                nothing up, so nothing waits for it either.
        """
        try:
            self.researcher.start()
            for number, target in enumerate(targets):
                due = 1 + number * self.script.rounds // (
                    2 * len(targets)
                )  # half of the rounds pass under kills
                if self._round < due:
                    self._await(lambda told, due=due: told.round >= due, 0.0)
                self._linger(self.rng.uniform(0, spread_s))
                if self._ended:
                    break
                self._strike(target, wait=self.rng.random() >= hasty)
            self._await(lambda told: self._ended, 0.0)
        finally:
            self.researcher.kill()
        return self

    def _strike(self, kind: str, *, wait: bool) -> None:
        node = self.rng.choice(self.world.nodes)
        struck = time.monotonic()
        match kind:
            case "researcher":
                self.researcher.kill()
                self.researcher.start()
                party, sign = "alice", lambda told: told.kind == "RoundOpened"
            case "broker":
                os.kill(self.world.broker.endpoint.pid, signal.SIGKILL)
                self.world.broker.kill()
                self.world.broker.start()
                party, sign = "broker", _is_work
            case "agent":
                wait &= node not in self._answered
                self.world.agents[node].kill()
                self.world.start_agent(node)
                party, sign = node, _is_work_of(node)
            case "everything":
                self._kill_everything()
                party, sign = "everything", _is_work
            case _:
                party = self._kill_worker(node)
                wait &= party not in self._answered
                if wait:  # what it told just before it died is still on its way
                    self._await(lambda told: told.kind == "RoundEnded" or _is_loss_of(party)(told), struck)
                sign = _is_work_of(party)
        at = self._round
        back = self._await(sign, time.monotonic()) - struck if wait else None
        self.kills.append(Kill(kind, party, at, back))

    def _kill_everything(self) -> None:
        """Kill every process in the same moment, then start all but the workers again."""
        agents = self.world.agents.values()
        victims = [agent.pid for agent in agents]
        victims += [worker for agent in agents for worker in workers_of(agent.pid)]
        for victim in (self.world.broker.endpoint.pid, *victims):
            os.kill(victim, signal.SIGKILL)
        for thing in (self.researcher, *agents, self.world.broker):
            thing.kill()
        self.world.start()
        self.researcher.start()

    def _kill_worker(self, preferred: PartyId) -> PartyId:
        """Kill the worker of a node, of the preferred one if it has one; wait for one if there is none."""
        while not self._ended:
            for node in sorted(self.world.nodes, key=lambda one: one != preferred):
                if workers := workers_of(self.world.agents[node].pid):
                    os.kill(self.rng.choice(workers), signal.SIGKILL)
                    return node
            self._await(_is_work, time.monotonic())
        return preferred

    def _await(self, wanted: Callable[[Told], bool], since: float) -> float:
        """Return when a wanted line came, not before `since`; the script is started again if it fails."""
        while not self._ended:
            try:
                told = self.researcher.told.get(timeout=PATIENCE_S)
            except Empty:
                raise AssertionError(f"stuck in round {self._round}: {self.kills[-3:]}") from None
            self._note(told)
            if told.at >= since and wanted(told):
                return told.at
        return time.monotonic()

    def _linger(self, seconds: float) -> None:
        """Let time pass."""
        until = time.monotonic() + seconds
        with contextlib.suppress(Empty):
            while not self._ended:
                self._note(self.researcher.told.get(timeout=max(0.0, until - time.monotonic())))

    def _note(self, told: Told) -> None:
        """Follow the experiment; start its script anew if it failed."""
        self.watch(told)
        if told.round > self._round:
            self._round, self._answered = told.round, set()
        if told.kind == "UpdateArrived":
            self._answered.add(told.node)
        if told.kind == "Ended" and told.facts["status"] == 0:
            self._ended = True
        elif told.kind == "Ended" and told.facts["status"] != -signal.SIGKILL:
            self.failures += 1
            assert self.failures <= MOST_FAILURES, self.researcher.errors.read_text()[-2000:]
            self.researcher.kill()
            self.researcher.start()


def workers_of(agent: int) -> list[int]:
    """Return the ids of an agent's worker processes: its children, or forks that it asked for."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if "node.worker.child" in command and (asked_by(agent) in command or process.ppid() == agent):
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def _is_work(told: Told) -> bool:
    """Tell whether a line says that the round goes on; that a worker was spawned is not enough."""
    trained = told.kind == "NodeProgress" and told.facts["steps"] > 0
    return trained or told.kind in {"UpdateArrived", "RoundEnded"}


def _is_loss_of(node: str) -> Callable[[Told], bool]:
    return lambda told: told.kind == "TaskLost" and told.node == node


def _is_work_of(node: str) -> Callable[[Told], bool]:
    return lambda told: told.kind == "RoundEnded" or (_is_work(told) and told.node == node)
