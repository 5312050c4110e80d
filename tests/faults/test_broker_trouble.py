"""A broker that pauses, refuses, restarts or forgets a party holds an experiment up, and says so; then it goes on by itself.

Everything is real and a process of its own. The bulk queues are smaller than a model, so every round may meet full ones.
"""

from __future__ import annotations

import os
import random
import signal

import pytest

from common.settings import Timeouts
from deploy.federation import QueueLimits
from deploy.membership import synchronise
from node.process import report
from tests.faults import aftermath
from tests.faults.ordeal import Ordeal, Told
from tests.faults.researcher_process import Script
from tests.faults.storms import hospitals
from tests.support.broker import ctl
from tests.support.world import World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300), pytest.mark.usefixtures("forked_processes")]

WIDTH = 240_000
"""Makes a model of 10 MB: ten chunks."""
LIMITS = QueueLimits(bulk_bytes=2**21)
SOON = Timeouts(reconnect_first_s=0.2, reconnect_max_s=1.0, reply_s=2.0)


def script(name: str, pause_s: float = 0.0) -> Script:
    return Script(name, ("north", "south"), rounds=4, steps=8, pause_s=pause_s, width=WIDTH)


class BadBroker:
    """Lets the broker have another trouble in each round, once north is seen to train, and waits until north tells of it."""

    def __init__(self, world: World) -> None:
        self.troubles = {1: self._run_short, 2: self._read_again, 3: self._restart, 4: self._forget}
        self._world = world
        self._south = world.agents["south"].pid

    def watch(self, told: Told) -> None:
        if told.kind == "RoundOpened" and told.round == 2:
            os.kill(self._south, signal.SIGSTOP)  # its queue fills with the model that goes out now
        if told.kind == "NodeProgress" and told.node == "north" and told.round in self.troubles:
            self.troubles.pop(told.round)()

    def _run_short(self) -> None:
        ctl(self._world.broker.endpoint, "set_vm_memory_high_watermark", "absolute", "10MB")
        self._until("the broker takes no messages for now: low on memory", connected=True)
        ctl(self._world.broker.endpoint, "set_vm_memory_high_watermark", "0.5")

    def _read_again(self) -> None:
        log = self._world.researcher_home / "researcher.jsonl"
        aftermath.wait_until(lambda: "queue full" in log.read_text(), "the researcher leaves south out")
        os.kill(self._south, signal.SIGCONT)

    def _restart(self) -> None:
        self._world.broker.stop()
        self._until("WRN-201", connected=False)
        self._world.broker.start()

    def _forget(self) -> None:
        federation, endpoint = self._world.federation, self._world.broker.endpoint
        endpoint.admin(federation.settings.vhost)._call("DELETE", "users", "north")
        self._until("WRN-202", connected=False)
        synchronise(federation, endpoint)

    def _until(self, detail: str, *, connected: bool) -> None:
        def told() -> bool:
            status = report(self._world.homes["north"]).status
            return status is not None and detail in status.detail and connected == status.connected

        aftermath.wait_until(told, f"north tells {detail}")


@pytest.mark.long
def test_whatever_the_broker_does_is_told_and_costs_time_and_nothing_else(tmp_path):
    """Short of memory, a full queue, a restart, and a user that is deleted and made again."""
    with hospitals(tmp_path, timeouts=SOON, limits=LIMITS) as world:
        world.start()
        rng = random.Random(1)  # noqa: S311  chooses nothing here
        Ordeal(world, script("calm"), rng).run()
        bad = BadBroker(world)

        ordeal = Ordeal(world, script("bad", pause_s=0.1), rng, watch=bad.watch).run()

        assert {} == bad.troubles
        assert 0 == ordeal.failures
        assert aftermath.models(world, "calm") == aftermath.models(world, "bad")
        aftermath.check_ledger(world, "bad")
        aftermath.check_journals(world)
        world.leave()
        aftermath.check_queues(world)
        aftermath.check_files(world)
    aftermath.check_processes(tmp_path)
