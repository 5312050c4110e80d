"""Lines between a node and the broker that are long, break and go silent: the rounds complete, and nothing is done twice.

Everything is real and a process of its own; the model is large enough to go in chunks.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing

import pytest

from common.settings import Timeouts
from tests.faults import aftermath
from tests.faults.ordeal import Ordeal
from tests.faults.researcher_process import Script
from tests.faults.storms import hospitals
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300), pytest.mark.usefixtures("forked_processes")]

WIDTH = 60_000
"""Makes a model of 2 MB: two chunks each way."""
SOON = Timeouts(
    connect_s=3.0, reconnect_first_s=0.2, reconnect_max_s=1.0, heartbeat_s=2.0, reply_s=2.0, presence_s=2.0
)


def script(name: str, pause_s: float = 0.0) -> Script:
    return Script(name, ("north", "south"), rounds=4, steps=8, pause_s=pause_s, width=WIDTH)


class BadLine:
    """Breaks the line of north in another way in each round, as soon as it is seen to train there."""

    def __init__(self, line: Proxy) -> None:
        self.broken: list[int] = []
        self._line = line
        self._frozen = False

    def watch(self, told) -> None:
        if self._frozen and told.kind == "NodeChanged" and not told.facts["online"]:
            self._frozen = False
            self._line.thaw()
        if told.kind != "NodeProgress" or told.node != "north" or told.round in self.broken:
            return
        self.broken.append(told.round)
        match told.round:
            case 1:
                self._line.delay(0.15)
            case 2:
                self._line.cut()
                threading.Timer(0.3, self._line.cut).start()  # again, while it connects or catches up
            case 3:
                self._line.delay(0.0)
                self._line.freeze()
                self._frozen = True
            case _:
                self._line.refuse()
                threading.Timer(1.0, self._line.accept).start()


def test_a_line_that_delays_breaks_and_goes_silent_costs_time_and_nothing_else(tmp_path):
    with hospitals(tmp_path, timeouts=SOON) as world, Proxy(world.federation.settings.port) as line:
        world.route("north", line.port)
        world.start()
        rng = random.Random(1)  # noqa: S311  chooses nothing here
        Ordeal(world, script("calm"), rng).run()
        bad = BadLine(line)

        Ordeal(world, script("bad", pause_s=0.1), rng, watch=bad.watch).run()

        assert [1, 2, 3, 4] == bad.broken
        assert aftermath.models(world, "calm") == aftermath.models(world, "bad")
        aftermath.check_ledger(world, "bad")
        aftermath.check_journals(world)
        for home in world.homes.values():
            with closing(sqlite3.connect(home.journal_path)) as journal:
                assert [(8, 1)] == journal.execute("SELECT count(*), max(attempts) FROM past").fetchall()
        world.leave()
        aftermath.check_queues(world)
        aftermath.check_files(world)
    aftermath.check_processes(tmp_path)
