"""A disk that fills up: the node pauses and goes on, the researcher stops with a reason and goes on; nothing spins, nothing is lost."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from common.settings import Timeouts
from node.process import report
from tests.faults import aftermath
from tests.faults.ordeal import Ordeal, Told
from tests.faults.researcher_process import Script
from tests.faults.storms import hospitals

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

DISK_BYTES = 64 * 2**20
WIDTH = 60_000
"""Makes a model of 2 MB, which does not fit into what a database holds in reserve."""
SOON = Timeouts(reconnect_first_s=0.2, reconnect_max_s=1.0, reply_s=2.0)
IDLE_S, IDLE_CPU_S = 3.0, 0.6
"""An agent that waits for space uses less than a fifth of a core, looking for it every second and telling nobody."""


class SmallDisk:
    """A file system of its own under a folder that exists."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:  # it ends where the disk does
            for size in (2**20, 2**12, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Put what a folder holds on a small disk; only root may."""
    aside = folder.with_name(f"{folder.name}-aside")
    shutil.copytree(folder, aside)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "none", folder],  # noqa: S607  wherever it is
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607  wherever it is


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A world, and the disks of north and of the researcher."""
    folder = tmp_path_factory.mktemp("world")
    with (
        ExitStack() as disks,  # unmounted when no process is left
        hospitals(folder, timeouts=SOON, settings="disk_floor_bytes = 0\n") as world,
    ):
        found = [disks.enter_context(small_disk(folder / party)) for party in ("north", "alice")]
        yield world.start(), *found
        world.leave()
        aftermath.check_queues(world)
        aftermath.check_files(world)
    aftermath.check_processes(folder)


def run(world, name: str, watch: Callable[[Told], None] = lambda told: None) -> Ordeal:
    script = Script(name, ("north", "south"), rounds=2, steps=8, pause_s=0.1, width=WIDTH)
    ordeal = Ordeal(world, script, random.Random(1), watch=watch).run()  # noqa: S311  chooses nothing here
    aftermath.check_ledger(world, name)
    aftermath.check_journals(world)
    return ordeal


@pytest.fixture(scope="module")
def calm(place):
    world = place[0]
    run(world, "calm")
    return aftermath.models(world, "calm")


def test_a_node_with_a_full_disk_pauses_says_so_and_goes_on_when_there_is_space(place, calm):
    world, disk, _ = place
    cpu_s: list[float] = []

    def paused() -> bool:
        return (status := report(world.homes["north"]).status) is not None and status.paused is not None

    def watch(told: Told) -> None:
        if told.kind == "NodeProgress" and told.node == "north" and not cpu_s:
            disk.fill()
            aftermath.wait_until(paused, "north pauses")
            assert "WRN-803" in report(world.homes["north"]).status.paused
            agent = psutil.Process(world.agents["north"].pid)
            before = agent.cpu_times()
            with suppress(psutil.TimeoutExpired):
                agent.wait(IDLE_S)  # it does not end
            after = agent.cpu_times()
            cpu_s.append(after.user + after.system - before.user - before.system)
            assert paused()
            disk.empty()
            aftermath.wait_until(lambda: not paused(), "north goes on")

    assert 0 == run(world, "node-full", watch).failures
    assert calm == aftermath.models(world, "node-full")
    assert cpu_s[0] < IDLE_CPU_S


def test_a_researcher_with_a_full_disk_stops_with_the_reason_and_goes_on_when_there_is_space(place, calm):
    world, _, disk = place
    filled: list[int] = []

    def watch(told: Told) -> None:
        if told.kind == "NodeProgress" and not filled:
            disk.fill()
            filled.append(told.round)
        if told.kind == "Ended" and told.facts["status"] != 0:
            disk.empty()

    ordeal = run(world, "researcher-full", watch)

    assert calm == aftermath.models(world, "researcher-full")
    assert 1 == ordeal.failures
    assert "WRN-803: no space left for" in ordeal.researcher.errors.read_text()
