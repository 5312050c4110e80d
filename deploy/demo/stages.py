"""Set the stage of the demo: a broker and the agents around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from common.errors import BrokerStoppedError, ReplyTimeoutError
from common.mailbox import Mailbox
from common.transport.memory import MemoryBroker
from deploy.broker import PrivateBroker
from deploy.demo.agents import Agent, AgentProcess, AgentThread
from deploy.federation import Federation
from node.home import NodeHome

if TYPE_CHECKING:
    from researcher.federation import Federation as Place

BrokerKind = Literal["rabbitmq", "memory"]


class Stage(Protocol):
    """Where the demo plays. The order of calls is that of the methods; `close` may come at any time."""

    kind: BrokerKind

    def launch(self) -> None:
        """Start the broker without waiting for it."""
        ...

    def start_agent(self, home: NodeHome) -> None:
        """Start the agent of a node without waiting for it."""
        ...

    def wait_ready(self) -> None:
        """Wait until parties can connect."""
        ...

    def enter(self, home: Path) -> Place:
        """Let all agents connect, and the researcher of a home; the caller closes its place."""
        ...

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call a function, on another thread, when an agent or the broker has ended by itself or by `close`."""
        ...

    def check(self) -> None:
        """Make sure that everything that should run does."""
        ...

    def close(self) -> None:
        """Stop agents, workers and broker. Nothing remains running. Idempotent."""
        ...


class _Agents:
    """What both stages do with their agents."""

    def __init__(self) -> None:
        self._agents: list[Agent] = []

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call a function when an agent has ended."""
        for agent in self._agents:
            agent.watch(on_end)

    def check(self) -> None:
        """Make sure that no agent has ended.

        Raises:
            AgentStartError: If one has; says with which words.
        """
        for agent in self._agents:
            agent.check()

    def _connect_agents(self) -> None:
        for agent in self._agents:
            agent.connect()

    def _stop_agents(self) -> None:
        for agent in self._agents:
            agent.ask_to_stop()
        while self._agents:
            self._agents.pop().stop()


class RabbitStage(_Agents):
    """A private RabbitMQ with mutual TLS, and one process for each node."""

    kind: BrokerKind = "rabbitmq"

    def __init__(self, federation: Federation) -> None:
        super().__init__()
        self._broker = PrivateBroker(federation, disposable=True)
        self._broker_end: BrokerStoppedError | None = None

    def launch(self) -> None:
        """Start RabbitMQ without waiting for it.

        Raises:
            BrokerMissingError: If it is not installed.
            BrokerStartError: If it cannot be started.
        """
        self._broker.launch()

    def start_agent(self, home: NodeHome) -> None:
        """Start an agent that loads its modules meanwhile."""
        self._agents.append(AgentProcess(home))

    def wait_ready(self) -> None:
        """Wait for RabbitMQ.

        Raises:
            BrokerStartError: If it ended, or was not ready in time.
        """
        self._broker.wait_ready()

    def enter(self, home: Path) -> Place:
        """Connect everybody.

        Raises:
            AgentStartError: If an agent has ended.
            BrokerUnreachableError: If the researcher cannot connect.
        """
        from researcher.federation import Federation as Place

        self._connect_agents()
        return Place.open(home)

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call a function when an agent or the broker has ended."""
        super().watch(on_end)
        threading.Thread(target=self._watch_broker, args=(on_end,), name="watch-broker", daemon=True).start()

    def check(self) -> None:
        """Make sure that broker and agents run.

        Raises:
            BrokerStoppedError: If the broker has ended.
            AgentStartError: If an agent has.
        """
        if self._broker_end is not None:
            raise self._broker_end
        super().check()

    def close(self) -> None:
        """Stop everything."""
        self._stop_agents()
        self._broker.stop()

    def _watch_broker(self, on_end: Callable[[], None]) -> None:
        try:
            self._broker.wait()
        except BrokerStoppedError as error:
            self._broker_end = error
            on_end()


class MemoryStage(_Agents):
    """A broker within this process, and one thread for each node; workers are processes all the same."""

    kind: BrokerKind = "memory"

    def __init__(self, federation: Federation) -> None:
        super().__init__()
        self._broker = MemoryBroker((member.party, member.role) for member in federation.members())

    def launch(self) -> None:
        """Do nothing: it is there."""

    def start_agent(self, home: NodeHome) -> None:
        """Prepare an agent."""
        party = home.connection().party
        self._agents.append(AgentThread(home, self._broker.transport(party)))

    def wait_ready(self) -> None:
        """Do nothing: it is there."""

    def enter(self, home: Path) -> Place:
        """Connect everybody."""
        from researcher.federation import Federation as Place
        from researcher.home import Home

        self._connect_agents()
        kit = Home(home).load_kit()
        return Place(Mailbox.of_kit(kit, self._broker.transport(kit.connection.party)), home)

    def close(self) -> None:
        """Stop everything."""
        self._stop_agents()


def wait_online(stage: Stage, place: Place, nodes: Collection[str]) -> None:
    """Wait until all nodes have been heard of.

    Raises:
        AgentStartError: If one of them has ended instead.
        ReplyTimeoutError: If that takes too long.
    """
    try:
        place.wait_for(nodes, place.timeouts.worker_start_s)
    except ReplyTimeoutError:
        stage.check()
        raise
