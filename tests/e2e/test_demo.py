"""`warren demo` keeps its promises as a newcomer sees them: it runs, it is right, and it leaves only its results."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.broker import SERVER_VARIABLE

pytestmark = pytest.mark.timeout(300)

DEADLINE_S = 200
GONE_S = 30
FILES = ["loss.svg", "model.safetensors", "report.html", "results.json"]


class Demo:
    """The command in a process of its own, with a temporary directory of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.out = folder / "out"
        command = [sys.executable, "-c", "from deploy.cli import app; app()", "demo", "--out", str(self.out)]
        self.process = subprocess.Popen(
            [*command, *arguments],
            env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []

    def until(self, words: str) -> None:
        """Read what it says until a line holds these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return
        pytest.fail(f"it ended without saying {words!r}: {''.join(self.lines)}")

    def finish(self) -> str:
        """Wait for its end and return all that it said."""
        rest, _ = self.process.communicate(timeout=DEADLINE_S)
        return "".join(self.lines) + rest

    def processes(self) -> list[psutil.Process]:
        """Return what works in its temporary directory: agents, workers, broker, epmd."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def ports(self) -> set[int]:
        """Return the TCP ports that its processes listen on."""
        found = set()
        for process in self.processes():
            try:
                connections = process.net_connections(kind="tcp")
            except psutil.NoSuchProcess:
                continue
            found |= {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
        return process.pid != self.process.pid and any(str(self.temporary) in word for word in words)


@contextmanager
def demo(folder: Path, *arguments: str, **environment: str) -> Iterator[Demo]:
    """Start the command, and see to it that it ends whatever the test finds."""
    running = Demo(folder, *arguments, **environment)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.process.wait(DEADLINE_S)
        assert running.process.stdout is not None
        running.process.stdout.close()


def assert_nothing_is_left(running: Demo, ports: set[int] = frozenset()) -> None:
    assert running.processes() == []
    assert list(running.temporary.iterdir()) == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def assert_right(document: dict, broker: str, rounds: int) -> None:
    assert (document["broker"], document["rounds"], len(document["round_s"])) == (broker, rounds, rounds)
    sizes = {name: (site["n_train"], site["n_test"]) for name, site in document["sites"].items()}
    assert sizes == {"cleveland": (199, 104), "hungary": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
    ours, optimum = document["global"], document["pooled_optimum"]
    assert optimum["train_log_loss"] == pytest.approx(0.48669291, abs=1e-8)
    assert ours["train_log_loss"] == pytest.approx(optimum["train_log_loss"], abs=0.005)
    assert ours["accuracy_mean"] == pytest.approx(optimum["accuracy_mean"], abs=0.02)
    assert ours["auc_pooled"] == pytest.approx(optimum["auc_pooled"], abs=0.02)
    for site in document["sites"].values():
        assert site["accuracy_found_by_node"] == pytest.approx(site["accuracy"], abs=1e-6)


@pytest.mark.broker
def test_over_rabbitmq_it_lands_at_the_pooled_optimum_and_leaves_only_its_results(tmp_path):
    with demo(tmp_path) as running:
        running.until("all nodes are online")
        ports = running.ports()
        assert len(ports) >= 4
        said = running.finish()
    assert running.process.returncode == 0, said
    assert sorted(path.name for path in running.out.iterdir()) == FILES
    assert_right(json.loads((running.out / "results.json").read_text()), "rabbitmq", 15)
    assert "pooled optimum" in said
    assert_nothing_is_left(running, ports)


@pytest.mark.usefixtures("forked_processes")
def test_without_rabbitmq_it_says_so_in_one_line_and_runs_in_memory(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("of an earlier run")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with demo(tmp_path, "--json", **{SERVER_VARIABLE: "/nowhere/rabbitmq-server"}) as running:
        said = running.finish()
    assert running.process.returncode == 0, said
    warning, printed = said.split("\n", 1)
    assert warning.startswith("WRN-312")
    assert "memory" in warning
    document = json.loads(printed)
    assert_right(document, "memory", 15)
    assert sorted(path.name for path in running.out.iterdir()) == sorted([*FILES, "notes.txt"])
    assert document == json.loads((running.out / "results.json").read_text()) | {"files": document["files"]}
    assert_nothing_is_left(running)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "started a private RabbitMQ"),
        (signal.SIGINT, "round 1/"),
        (signal.SIGTERM, "all nodes are online"),
    ],
)
@pytest.mark.broker
@pytest.mark.usefixtures("forked_processes")
def test_stopped_at_any_moment_it_leaves_nothing(number, moment, tmp_path):
    with demo(tmp_path, "--rounds", "100000") as running:
        running.until(moment)
        ports = running.ports()
        running.process.send_signal(number)
        said = running.finish()
    assert running.process.returncode == 128 + number, said
    assert said.splitlines()[-1] == "Stopped; nothing runs any more."
    assert list(running.out.iterdir()) == []
    assert_nothing_is_left(running, ports)


@pytest.mark.broker
def test_killed_hard_it_takes_its_agents_workers_and_broker_along(tmp_path):
    with demo(tmp_path, "--rounds", "100000") as running:
        running.until("round 1/")
        children = running.processes()
        assert len(children) >= 4 + 4 + 2
        running.process.kill()
        running.finish()
    _, alive = psutil.wait_procs(children, timeout=GONE_S)
    assert alive == []


@pytest.mark.broker
@pytest.mark.usefixtures("forked_processes")
def test_a_node_agent_that_dies_ends_the_demo_with_a_clear_error(tmp_path):
    with demo(tmp_path, "--rounds", "100000") as running:
        running.until("rounds 1 to")
        agents = [one for one in running.processes() if "deploy.demo.agents" in one.cmdline()]
        agents[0].kill()
        said = running.finish()
    assert running.process.returncode == 1
    assert "WRN-315" in said
    assert_nothing_is_left(running)
