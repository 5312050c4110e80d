"""Be the researcher's place in a federation: who is there, and what they have."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from common.audit.log import AuditLog
from common.clock import Clock, SystemClock
from common.errors import PortTakenError, ReplyTimeoutError
from common.exporter import ExporterSettings
from common.ids import Digest, PartyId
from common.mailbox import Mailbox
from common.messages import (
    AnyMessage,
    DatasetDescription,
    ListReply,
    ListRequest,
    PingReply,
    PingRequest,
    PlanApprovalReply,
    PlanApprovalRequest,
    PlanStatusReply,
    PlanStatusRequest,
    Reply,
    SearchReply,
    SearchRequest,
)
from common.settings import Timeouts
from researcher.audit import asked
from researcher.directory import NodeStatus
from researcher.exporter import ResearcherExporter
from researcher.home import Home, default_home
from researcher.hub import Hub
from researcher.monitoring.figures import ExperimentFigures

ReplyT = TypeVar("ReplyT", bound=Reply)

Datasets = dict[PartyId, tuple[DatasetDescription, ...]]


class Closeable(Protocol):
    """Whatever has something to say to the nodes before the federation is left."""

    def close(self) -> None:
        """Say it."""
        ...


class Federation:
    """The researcher's place in a federation, shared by all experiments of a process. Thread-safe."""

    def __init__(
        self,
        mailbox: Mailbox,
        home: Path,
        *,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Start to send and receive.

        Args:
            mailbox: Not started yet; closed with the federation.
            home: Folder of this researcher, in which experiments live.
            timeouts: How long to wait for answers and presence.
            clock: Tells the time.
            on_close: Called when the federation was closed.
        """
        self.home = Home(home)
        self.timeouts = timeouts or Timeouts()
        self.clock = clock or SystemClock()
        self.hub = Hub(mailbox, self.home, self.timeouts, self.clock)
        self.audit = AuditLog(self.home.audit, mailbox.party, clock=self.clock)
        self._on_close = on_close
        self.figures = ExperimentFigures()
        self._exporter: ResearcherExporter | None = None
        self._closed = False
        self._experiments: weakref.WeakSet[Closeable] = weakref.WeakSet()
        self.hub.start()

    @classmethod
    def open(cls, home: Path | str | None = None) -> Federation:
        """Enter the federation of a home; while it is open, further calls in this process return the same object.

        Args:
            home: The folder; `WARREN_HOME` or `./warren-researcher` if not given.

        Raises:
            HomeError: If it is no home.
            HomeInUseError: If another process uses it.
            KitError: If its kit cannot be used.
            BrokerUnreachableError: If there is no connection within `Timeouts.connect_s`.
        """
        from researcher.opening import open_federation

        return open_federation(default_home() if home is None else Path(home))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its experiments and leave the federation. Idempotent; what was not acknowledged stays with the broker."""
        if not self._closed:
            self._closed = True
            for experiment in list(self._experiments):
                experiment.close()
            if self._exporter is not None:
                self._exporter.close()
            self.hub.close()
            self._on_close()

    def export_metrics(self, settings: ExporterSettings) -> int:
        """Let Prometheus read metrics until the federation is closed, and return the port.

        They are those of this process, of its experiments, and of the nodes, which tell them by telemetry.

        Raises:
            InvalidSettingsError: If login, certificate or key cannot be used.
            PortTakenError: If the port cannot be used, or metrics are exported already.
        """
        if self._exporter is not None:
            reason = f"metrics are exported on port {self._exporter.port} already"
            raise PortTakenError(host=str(settings.address), port=settings.port, reason=reason)
        self._exporter = ResearcherExporter(settings, self.hub, self.figures, self.home)
        return self._exporter.port

    def adopt(self, experiment: Closeable) -> None:
        """Close an experiment before the federation is closed, so that no worker waits for it in vain."""
        self._experiments.add(experiment)

    @property
    def party(self) -> PartyId:
        """Return the id of this researcher."""
        return self.hub.party

    @property
    def members(self) -> tuple[PartyId, ...]:
        """Return the nodes of the federation, online or not, in the order of their ids."""
        return tuple(sorted(member.party for member in self.hub.roster.active("node")))

    def nodes(self) -> dict[PartyId, NodeStatus]:
        """Return the status of each node, as soon as it is known of each whether it is online.

        That is at once, or just after the start within `Timeouts.presence_s`.
        """
        self.hub.wait(_all_known, 2 * self.timeouts.presence_s)
        return self.hub.statuses()

    def wait_for(self, nodes: Collection[str] | str, timeout_s: float) -> None:
        """Wait until all these nodes are online.

        Raises:
            UnknownPartyError: If one is not in the federation.
            ReplyTimeoutError: If that takes longer than `timeout_s`; names those that are missing.
        """
        wanted = self._named(nodes)

        def absent(statuses: Mapping[PartyId, NodeStatus]) -> list[PartyId]:
            return [node for node in wanted if node not in statuses or not statuses[node].online]

        if not self.hub.wait(lambda statuses: not absent(statuses), timeout_s):
            missing = ", ".join(absent(self.hub.statuses()))
            raise ReplyTimeoutError(party=missing, request="call for presence", timeout_s=timeout_s)

    def ping(self, nodes: Collection[str] | str | None = None) -> dict[PartyId, NodeStatus]:
        """Ask nodes to speak at once, and return the status of those that did."""
        answered = self._ask(PingRequest, PingReply, nodes)
        return {node: status for node, status in self.hub.statuses().items() if node in answered}

    def search(self, tags: Collection[str] | str, nodes: Collection[str] | str | None = None) -> Datasets:
        """Return the data sets that carry all these tags, for each node that has one.

        Nodes that are offline are not asked. One that does not answer within `Timeouts.reply_s` is left out with a warning.

        Raises:
            UnknownPartyError: If a named node is not in the federation.
        """
        wanted = (tags,) if isinstance(tags, str) else tuple(tags)
        replies = self._ask(SearchRequest, SearchReply, nodes, tags=wanted)
        return {node: reply.datasets for node, reply in replies.items() if reply.datasets}

    def list(self, nodes: Collection[str] | str | None = None) -> Datasets:
        """Return all data sets of each node that answers; otherwise as `search`."""
        return {node: reply.datasets for node, reply in self._ask(ListRequest, ListReply, nodes).items()}

    def plan_status(
        self, plan_hash: Digest, nodes: Collection[str] | str | None = None
    ) -> dict[PartyId, PlanStatusReply]:
        """Return what each node that answers decided about a plan; otherwise as `search`."""
        return self._ask(PlanStatusRequest, PlanStatusReply, nodes, plan_hash=plan_hash)

    def request_approval(
        self,
        plan_name: str,
        plan_hash: Digest,
        source: str,
        *,
        note: str = "",
        nodes: Collection[str] | str | None = None,
    ) -> dict[PartyId, PlanApprovalReply]:
        """Show a plan to the people of the nodes and ask them to approve it.

        A node that is offline is not waited for and finds the request when it returns.

        Returns:
            What each node that is online says: usually that the request is pending.
        """
        everyone = self.members if nodes is None else self._named(nodes)
        if not everyone:
            return {}
        request = PlanApprovalRequest(
            sender=self.party,
            recipients=everyone,
            plan_name=plan_name,
            plan_hash=plan_hash,
            source=source,
            note=note,
        )
        return _typed(self._sent(request, self._reachable(everyone)), PlanApprovalReply)

    def _ask(
        self,
        kind: Callable[..., AnyMessage],
        answer: type[ReplyT],
        nodes: Collection[str] | str | None,
        **content: object,
    ) -> dict[PartyId, ReplyT]:
        recipients = self._reachable(self.members if nodes is None else self._named(nodes))
        if not recipients:
            return {}
        deadline = self.clock.now() + self.timeouts.reply_s
        request = kind(sender=self.party, recipients=recipients, deadline=deadline, **content)
        return _typed(self._sent(request, recipients), answer)

    def _sent(self, request: AnyMessage, expected: Collection[PartyId]) -> dict[PartyId, Reply]:
        """Record a request, send it, and return the answers."""
        entry = asked(request)
        if entry is not None:
            self.audit.append(entry, durable=False)
        return self.hub.ask(request, expected)

    def _reachable(self, nodes: Collection[PartyId]) -> tuple[PartyId, ...]:
        """Return those of the nodes that are not known to be offline."""
        statuses = self.hub.statuses()
        return tuple(node for node in nodes if node in statuses and statuses[node].online is not False)

    def _named(self, nodes: Collection[str] | str) -> tuple[PartyId, ...]:
        names = {nodes} if isinstance(nodes, str) else set(nodes)
        return tuple(self.hub.roster.member(PartyId(name)).party for name in sorted(names))


def _typed(replies: Mapping[PartyId, Reply], kind: type[ReplyT]) -> dict[PartyId, ReplyT]:
    """Return the answers that are of the kind that was asked for; a node that answers otherwise has not answered."""
    return {node: reply for node, reply in replies.items() if isinstance(reply, kind)}


def _all_known(statuses: Mapping[PartyId, NodeStatus]) -> bool:
    """Tell whether it is; a roster without nodes may be an old one, and the present one on its way."""
    return bool(statuses) and all(status.online is not None for status in statuses.values())
