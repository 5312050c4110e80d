"""Keep track of who is there: a pure record of the nodes of a federation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common.ids import PartyId
from common.messages import NodeFigures, NodeInfo


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What is known about one node.

    Attributes:
        node: Its id.
        online: Whether it is connected; None before it was heard of and before it could have been.
        since: Unix time from which it is so: online since its agent started or came back, offline since it last spoke; None
            if that is not known, as of a node that was never heard of.
        last_seen: Unix time at which it last spoke to this researcher.
        info: What it last told about itself.
        figures: How it last said that it works; None if it does not tell.
        ahead_s: How far its clock was ahead of ours when it last spoke, less the time under way.
    """

    node: PartyId
    online: bool | None = None
    since: float | None = None
    last_seen: float | None = None
    info: NodeInfo | None = None
    figures: NodeFigures | None = None
    ahead_s: float | None = None


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node came or went."""

    node: PartyId
    online: bool
    at: float


class NodeDirectory:
    """Who is online since when. Not thread-safe; times are handed in.

    A node is online from the moment it speaks until it says goodbye or is silent for `presence_s`. One that was never heard
    of counts as offline `presence_s` after it was listed.
    """

    def __init__(self, presence_s: float) -> None:
        self._presence_s = presence_s
        self._nodes: dict[PartyId, NodeStatus] = {}
        self._silent_at: dict[PartyId, float] = {}  # when silence will mean offline, on the monotonic clock
        self._went: set[PartyId] = set()  # seen to go, so that their next word is a return

    def remember(self, known: Mapping[str, NodeStatus]) -> None:
        """Take over what was known of the nodes before this process, except whether they are online."""
        for node, status in self._nodes.items():
            if node in known and status.last_seen is None:
                before = known[node]
                self._nodes[node] = replace(status, last_seen=before.last_seen, info=before.info)

    def list(self, nodes: Iterable[PartyId], *, monotonic: float) -> None:
        """Replace the set of nodes; what is known of those that stay is kept."""
        wanted = sorted(nodes)
        self._nodes = {node: self._nodes.get(node, NodeStatus(node)) for node in wanted}
        limit = monotonic + self._presence_s
        self._silent_at = {
            node: self._silent_at.get(node, limit) for node in wanted if self._nodes[node].online is not False
        }

    def seen(
        self,
        node: PartyId,
        *,
        now: float,
        monotonic: float,
        info: NodeInfo | None = None,
        figures: NodeFigures | None = None,
        leaving: bool = False,
        said_at: float | None = None,
    ) -> NodeChange | None:
        """Note that a node spoke; return the change if it came or went by that."""
        known = self._nodes.get(node)
        if known is None:
            return None
        online = not leaving
        changed = known.online is not online
        since = now if changed and (leaving or node in self._went) else None if changed else known.since
        if online and info is not None:
            since = max(since or 0.0, min(now, info.started_at))
        if figures is None and not changed:
            figures = known.figures  # an answer has none
        self._nodes[node] = replace(
            known,
            online=online,
            since=since,
            last_seen=now,
            info=info or known.info,
            figures=figures,
            ahead_s=known.ahead_s if said_at is None else said_at - now,
        )
        (self._went.discard if online else self._went.add)(node)
        if online:
            self._silent_at[node] = monotonic + self._presence_s
        else:
            self._silent_at.pop(node, None)
        return NodeChange(node, online, now) if changed else None

    def expire(self, *, now: float, monotonic: float) -> Iterable[NodeChange]:
        """Take nodes that were silent for too long for offline, and return these changes."""
        silent = [node for node, at in self._silent_at.items() if at <= monotonic]
        for node in silent:
            del self._silent_at[node]
            known = self._nodes[node]
            if known.online:
                self._went.add(node)
            self._nodes[node] = replace(known, online=False, since=known.last_seen)
        return [NodeChange(node, online=False, at=now) for node in silent]

    def forgive(self, monotonic: float) -> None:
        """Count silence from this moment on: until then this side, or others, may not have been connected."""
        limit = monotonic + self._presence_s
        self._silent_at = dict.fromkeys(self._silent_at, limit)

    @property
    def deadline(self) -> float | None:
        """Return the monotonic time at which `expire` should be called next, if any."""
        return min(self._silent_at.values(), default=None)

    @property
    def nodes(self) -> Mapping[PartyId, NodeStatus]:
        """Return all nodes in the order of their ids."""
        return dict(self._nodes)


_SNAPSHOT: TypeAdapter[dict[str, NodeStatus]] = TypeAdapter(dict[str, NodeStatus])


def snapshot(nodes: Mapping[PartyId, NodeStatus]) -> bytes:
    """Return the nodes as JSON, for other processes of the same home; without figures, which age within seconds."""
    return _SNAPSHOT.dump_json(
        {str(node): replace(status, figures=None, ahead_s=None) for node, status in nodes.items()}
    )


def read_snapshot(path: Path) -> dict[str, NodeStatus]:
    """Return the nodes as a process of this home saw them last; nothing if none did, or another version wrote the file."""
    try:
        return _SNAPSHOT.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
