"""Bring up a whole federation of real processes: private RabbitMQ with mutual TLS, node agents, a researcher's home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from common.ids import PartyId
from common.security.kit import CONNECTION, _toml
from common.settings import Connection, Timeouts, load_toml
from deploy.broker import PrivateBroker
from deploy.demo.agents import AgentProcess
from deploy.federation import Federation, QueueLimits
from node.approval import Approvals
from node.home import NodeHome
from node.registry import Registry
from researcher.federation import Federation as Place
from researcher.home import Home

RESEARCHER = PartyId("alice")
TAG = "trial"


class World:
    """One federation on this machine; leaving the context stops everything that was started."""

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[str],
        *,
        table: str | Callable[[PartyId], str],
        plan: str,
        plan_name: str,
        settings: str = "",
        timeouts: Timeouts | None = None,
        limits: QueueLimits | None = None,
    ) -> None:
        """Make kits and homes; nothing runs yet.

        Args:
            folder: Where everything goes.
            nodes: The nodes.
            table: Content of the csv file that each node registers with the tag `trial`, or what makes it for a node.
            plan: Source of the plan that each node approves.
            plan_name: Its class.
            settings: More lines of each `policy.toml`.
            timeouts: Those of every party.
            limits: How large the broker's queues may grow.
        """
        self.folder = folder
        self.nodes = [PartyId(node) for node in nodes]
        self.federation = Federation.create(folder / "federation", "trial", limits=limits)
        self.federation.add(RESEARCHER, "researcher")
        self.homes: dict[PartyId, NodeHome] = {}
        for node in self.nodes:
            home = NodeHome.create(folder / node, self.federation.add(node, "node"))
            home.settings_path.write_text("worker_threads = 1\ncompulsory_protections = []\n" + settings)
            data = folder / f"{node}.csv"
            data.write_text(table if isinstance(table, str) else table(node))
            registry = Registry(home.registry_path)
            registry.add(
                data, name="table", tags=[TAG], description="a table made for a test", data_type="tabular"
            )
            registry.close()
            approvals = Approvals(home.registry_path)
            approvals.approve_source(plan, name=plan_name, by="the test")
            approvals.close()
            self.homes[node] = home
        self.researcher_home = folder / RESEARCHER
        Home.init(self.researcher_home, self.federation.kit(RESEARCHER))
        for kit in self.kits.values():
            _change(kit, timeouts=timeouts or Timeouts())
        self.broker = PrivateBroker(self.federation)
        self.agents: dict[PartyId, AgentProcess] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.leave()
        self.broker.stop()

    def leave(self) -> None:
        """Stop every agent in good order, and leave the broker running."""
        for agent in self.agents.values():
            agent.ask_to_stop()
        for agent in self.agents.values():
            agent.stop()

    @property
    def kits(self) -> dict[PartyId, Path]:
        """The folder of the kit that each party uses."""
        nodes = {node: home.kit_path for node, home in self.homes.items()}
        return nodes | {RESEARCHER: Home(self.researcher_home).kit}

    def route(self, party: PartyId, port: int) -> None:
        """Let a party dial another port from its next start on."""
        _change(self.kits[party], port=port)

    def start(self) -> Self:
        """Start the broker and every agent, which load while it boots."""
        self.broker.launch()
        for node in self.nodes:
            self.agents[node] = AgentProcess(self.homes[node])
        self.broker.wait_ready()
        for agent in self.agents.values():
            agent.connect()
        return self

    def start_agent(self, node: PartyId) -> None:
        """Start one agent, anew if it ended."""
        self.agents[node] = AgentProcess(self.homes[node])
        self.agents[node].connect()

    def enter(self) -> Place:
        """Connect the researcher and wait until every node that runs is online."""
        place = self._stack.enter_context(Place.open(self.researcher_home))
        place.wait_for(list(self.agents), 30)
        return place


def _change(kit: Path, **settings: object) -> None:
    connection = load_toml(kit / CONNECTION, Connection).model_copy(update=settings)
    (kit / CONNECTION).write_text(_toml(connection))
