"""Bring up two hospitals, train once undisturbed, then again and again while processes are killed."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.ids import Digest, PartyId
from common.training_plans.source import plan_source
from tests.faults import aftermath
from tests.faults.noisy_plan import NoisyPlan
from tests.faults.ordeal import KINDS, Kill, Ordeal
from tests.faults.researcher_process import Script
from tests.support.world import World

NODES = ("north", "south")
ROUNDS = 10
STEPS = 20
PAUSE_S = 0.12
"""Of each step, so that a round lasts long enough to be hit in the middle of training."""
SHARES = {"agent": 8, "worker": 7, "researcher": 7, "broker": 3}
"""How often each kind is killed out of 25 times: a broker takes by far the longest to come back."""


def table(node: PartyId) -> str:
    """Return the data of a node: others than those of any other."""
    rng = random.Random(node)  # noqa: S311  data of a test
    rows = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(60)]
    lines = [",".join(f"{value:.4f}" for value in (*row, sum(row))) for row in rows]
    return "\n".join(["a,b,c,d,y", *lines]) + "\n"


def hospitals(folder: Path, **options: object) -> World:
    """Return a world of nodes that approve the noisy plan; nothing runs yet."""
    return World(folder, NODES, table=table, plan=plan_source(NoisyPlan), plan_name="NoisyPlan", **options)


@contextmanager
def weather(folder: Path, seed: int, *, rounds: int = ROUNDS) -> Iterator[Weather]:
    """Start the world and train once undisturbed; at the end see that nothing is left of it."""
    with hospitals(folder) as world:
        yield Weather(world.start(), seed, rounds)
        world.leave()
        aftermath.check_queues(world)
        aftermath.check_files(world)
    aftermath.check_processes(folder)


class Weather:
    """A world, the models of an undisturbed experiment in it, and storms to come."""

    def __init__(self, world: World, seed: int, rounds: int) -> None:
        self.world = world
        self._rounds = rounds
        self.kills: list[Kill] = []
        self._rng = random.Random(seed)  # noqa: S311  moments of a test
        self._storms = 0
        Ordeal(world, self._script("calm"), self._rng).run()
        self.calm: list[Digest] = aftermath.models(world, "calm")
        assert rounds == len(self.calm)

    def storm(self, targets: Sequence[str], *, hasty: float = 0.4) -> list[Kill]:
        """Run the same experiment again under these kills, see that the models are the same and that the books are right."""
        self._storms += 1
        name = f"storm-{self._storms}"
        script = self._script(name, pause_s=PAUSE_S)
        kills = Ordeal(self.world, script, self._rng).run(targets, hasty=hasty).kills
        assert self.calm == aftermath.models(self.world, name)
        aftermath.check_ledger(self.world, name)
        aftermath.check_journals(self.world)
        self.kills += kills
        return kills

    def mixed(self, count: int) -> list[str]:
        """Return so many kinds to kill, in an order that the seed decides; of the whole storm the share of each is fixed."""
        kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
        self._rng.shuffle(kinds)
        return kinds[:count]

    def _script(self, name: str, pause_s: float = 0.0) -> Script:
        # Of a kind of its own are the retries: workers are killed far more often than any plan fails.
        return Script(name, NODES, self._rounds, STEPS, pause_s=pause_s, retries=10)


def summary(kills: list[Kill]) -> str:
    """Return a table of how long the round was held up by each kind of kill."""
    lines = [
        f"{'killed':<12}{'times':>6}{'median s':>10}{'p90 s':>8}{'longest s':>11}   until the round went on"
    ]
    for kind in KINDS:
        struck = [kill for kill in kills if kill.kind == kind]
        if not struck:
            continue
        back = sorted(kill.back_s for kill in struck if kill.back_s is not None)
        if not back:
            lines.append(f"{kind:<12}{len(struck):>6}{'':>10}{'':>8}{'':>11}")
            continue
        p90 = back[min(len(back) - 1, int(0.9 * len(back)))]
        lines.append(
            f"{kind:<12}{len(struck):>6}{statistics.median(back):>10.1f}{p90:>8.1f}{back[-1]:>11.1f}"
        )
    return "\n".join(lines)
