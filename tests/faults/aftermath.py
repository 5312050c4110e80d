"""Look at what a trial left behind: ledger, journals, processes, files, queues."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil

from common.ids import Digest
from node.journal import Journal
from researcher import FedAverage
from researcher.aggregators import Contribution
from researcher.holdings import Holdings
from researcher.home import Home
from researcher.ledger import Ledger
from tests.support.broker import RunningFederation
from tests.support.world import World

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}$|\.(new|part|map|draft|tmp)$")
"""Names of files that exist only while something is being written."""

_NEVER = threading.Event()


def models(world: World, name: str) -> list[Digest]:
    """Return the global model of each round of an experiment."""
    with closing(Ledger.open(Home(world.researcher_home).experiments / name)) as ledger:
        closed = [record for record in ledger.rounds() if record.kind == "train" and record.model]
    assert list(range(1, len(closed) + 1)) == [record.round for record in closed]
    return [record.model for record in closed if record.model]


def check_ledger(world: World, name: str) -> None:
    """See that every update counts once and is there, and that the recorded ones give the recorded models."""
    folder = Home(world.researcher_home).experiments / name
    draft = folder.with_name("replayed")
    with closing(Ledger.open(folder)) as ledger:
        assert [] == ledger.open_rounds()
        assert ledger.experiment().run is None
        store = Holdings(ledger, folder)
        for record in ledger.rounds():
            if record.model is None:
                continue
            tasks = [task for task in ledger.tasks(record.run, record.round) if task.state == "accepted"]
            assert dict.fromkeys(world.nodes, 1) == Counter(task.node for task in tasks)
            counted = ledger.counted(record.run, record.round)
            assert len(tasks) == len(counted)
            for one in counted:
                with store.file(one.update.sha256) as path:
                    assert one.update.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            parts = [
                Contribution(one.node, store.content(one.update.sha256), one.samples_seen, one.samples_train)
                for one in counted
            ]
            FedAverage().aggregate(store.content(record.base), parts, draft)
            assert record.model == hashlib.sha256(draft.read_bytes()).hexdigest()
            draft.unlink()
        outcomes = {row["outcome"] for row in ledger._read("SELECT outcome FROM updates")}
        assert outcomes <= {"accepted", "late"}


def check_journals(world: World) -> None:
    """See that the nodes have nothing left to do and kept nothing that nobody will ask for."""
    for home in world.homes.values():
        with closing(Journal(home.journal_path)) as journal:
            wait_until(lambda journal=journal: not list(journal.open_tasks()), "the journal is settled")
            assert 0 == journal._db.execute("SELECT count(*) FROM payload").fetchone()[0]
        wait_until(lambda home=home: not list(home.payloads.iterdir()), f"{home.payloads} is empty")


def check_queues(world: World) -> None:
    """See that no queue holds anything but telemetry, which expires; the parties must have left."""
    running = RunningFederation(world.federation, world.broker.endpoint)
    waiting = {queue: depth for queue, depth in running.depths().items() if depth}
    assert {} == {queue: depth for queue, depth in waiting.items() if not queue.endswith(".telemetry")}


def check_files(world: World) -> None:
    """See that nothing that was being written lies around."""
    assert [] == [path for path in world.folder.rglob("*") if _TEMPORARY.search(path.name)]
    for home in world.homes.values():
        assert [] == list(home.payloads.iterdir())
        assert [] == list(home.work.iterdir())
    assert [] == list(Home(world.researcher_home).transfers.iterdir())


def check_processes(folder: Path) -> None:
    """See that no process of the trial is left."""
    wait_until(lambda: not processes_in(folder), f"no process of {folder} runs")


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes that were told of a folder, or live in it; this one not counted."""
    found = []
    for process in psutil.process_iter():
        try:
            told = " ".join([*process.cmdline(), *process.environ().values(), process.cwd()])
        except psutil.Error:
            continue
        if str(folder) in told and process.pid != psutil.Process().pid and "pytest" not in told.split()[:4]:
            found.append(process)
    return found


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    """Wait for something that nothing tells of."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"it never came to be that {what}"
        _NEVER.wait(0.05)
