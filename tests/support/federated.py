"""Run one small experiment on data of any family: real agents with real workers, over the in-memory transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.ids import PartyId
from common.mailbox import Mailbox
from common.training_plans import TrainingPlan
from common.training_plans.source import plan_source
from common.transport.memory import MemoryBroker
from node.approval import Approvals
from node.home import NodeHome
from node.registry import Registry
from researcher import Experiment
from researcher.federation import Federation
from tests.support.nodes import DEADLINE_S, RunningNode, make_kits

NODES = ("north", "south")
TAG = "ward"


@contextmanager
def experiment(
    folder: Path, plan: type[TrainingPlan], register: Callable[[Registry, str], object], **settings: object
) -> Iterator[Experiment]:
    """Yield an experiment on two nodes.

    Args:
        folder: Where everything goes.
        plan: What is trained.
        register: Registers the data of a node, under the tag `TAG`.
        **settings: More of the experiment.
    """
    kits = make_kits(folder / "kits", {"lab": "researcher"} | dict.fromkeys(NODES, "node"))
    broker = MemoryBroker(kits["lab"].roster.parties())
    nodes = []
    try:
        for name in NODES:
            home = NodeHome.create(folder / name, kits[name].path)
            home.settings_path.write_text("worker_threads = 1\n")
            with_registry(home, lambda registry, name=name: register(registry, name))
            approvals = Approvals(home.registry_path)
            approvals.approve_source(plan_source(plan), name=plan.__name__, by="the test")
            approvals.close()
            nodes.append(RunningNode(home, broker))
        place = Federation(Mailbox.of_kit(kits["lab"], broker.transport(PartyId("lab"))), folder / "lab")
        try:
            place.wait_for(list(NODES), DEADLINE_S)
            made = Experiment(
                tags=[TAG],
                training_plan_class=plan,
                training_args={"num_updates": 2, "random_seed": 5, "test_ratio": 0.25}
                | {"test_on_global_updates": True},
                federation=place,
                observers=(),
                **settings,
            )
            try:
                yield made
            finally:
                made.close()
        finally:
            place.close()
    finally:
        for node in nodes:
            node.stop()


def with_registry(home: NodeHome, use: Callable[[Registry], object]) -> None:
    """Use the registry of a home, and close it."""
    registry = Registry(home.registry_path)
    try:
        use(registry)
    finally:
        registry.close()
