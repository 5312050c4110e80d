"""A disk that fills up: the node pauses and goes on, the researcher stops with a reason and goes on; nothing spins, nothing is lost."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
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
from tests.support.world import World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300), pytest.mark.usefixtures("forked_processes")]

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
        # A plain user, or root in a container, may not. Nothing else shows the pause, so CI runs this as root.
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607  wherever it is


def script(name: str, pause_s: float = 0.0) -> Script:
    return Script(name, ("north", "south"), rounds=2, steps=8, pause_s=pause_s, width=WIDTH)


class FullDisks:
    """Fills the disk of north in the first round and that of the researcher in the second, and makes space once each has said so."""

    def __init__(self, world: World, of_north: SmallDisk, of_researcher: SmallDisk) -> None:
        self.filled: list[int] = []
        self.idle_cpu_s = float("inf")
        self._world = world
        self._of_north, self._of_researcher = of_north, of_researcher

    def watch(self, told: Told) -> None:
        if told.kind == "Ended" and told.facts["status"] != 0:
            self._of_researcher.empty()
        if told.kind != "NodeProgress" or told.node != "north" or told.round in self.filled:
            return
        self.filled.append(told.round)
        if told.round == 1:
            self._of_north.fill()
            aftermath.wait_until(lambda: self._paused() is not None, "north pauses")
            assert str(self._paused()).startswith("WRN-803: no space left for")
            self.idle_cpu_s = self._idle()
            assert self._paused() is not None
            self._of_north.empty()
            aftermath.wait_until(lambda: self._paused() is None, "north goes on")
        else:
            self._of_researcher.fill()

    def _paused(self) -> str | None:
        """Return what north says for what it pauses; its status may be missing for a moment while it is written over."""
        status = None
        while status is None:
            status = report(self._world.homes["north"]).status
        return status.paused

    def _idle(self) -> float:
        """Return how much CPU time the agent of north uses while it waits."""
        agent = psutil.Process(self._world.agents["north"].pid)
        before = agent.cpu_times()
        with suppress(psutil.TimeoutExpired):
            agent.wait(IDLE_S)  # it does not end
        after = agent.cpu_times()
        return after.user + after.system - before.user - before.system


def test_a_full_disk_makes_a_node_pause_and_a_researcher_stop_and_both_go_on_when_there_is_space(tmp_path):
    with (
        ExitStack() as disks,  # unmounted when no process is left
        hospitals(tmp_path, timeouts=SOON, settings="disk_floor_bytes = 0\n") as world,
    ):
        full = FullDisks(
            world, *(disks.enter_context(small_disk(tmp_path / party)) for party in ("north", "alice"))
        )
        world.start()
        rng = random.Random(1)  # noqa: S311  chooses nothing here
        Ordeal(world, script("calm"), rng).run()

        ordeal = Ordeal(world, script("full", pause_s=0.1), rng, watch=full.watch).run()

        assert [1, 2] == full.filled
        assert full.idle_cpu_s < IDLE_CPU_S
        assert 1 == ordeal.failures
        assert "WRN-803: no space left for" in ordeal.researcher.errors.read_text()
        assert aftermath.models(world, "calm") == aftermath.models(world, "full")
        aftermath.check_ledger(world, "full")
        aftermath.check_journals(world)
        world.leave()
        aftermath.check_queues(world)
        aftermath.check_files(world)
    aftermath.check_processes(tmp_path)
