"""Find out who is there and what data they have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.messages.base import Message, Reply, Tag
from common.messages.description import DatasetDescription, NodeInfo
from common.messages.figures import NodeFigures


class PingRequest(Message):
    """Ask a node to say at once that it is there."""

    kind: Literal["ping_request"] = "ping_request"


class PingReply(Reply):
    """Answer a ping."""

    kind: Literal["ping_reply"] = "ping_reply"
    info: NodeInfo


class NodePresence(Message):
    """Tell every researcher that a node is there; said at the start, then regularly, and at the end."""

    kind: Literal["node_presence"] = "node_presence"
    info: NodeInfo
    figures: NodeFigures | None = None
    """How it works; none if its policy keeps that to itself."""
    leaving: bool = False


class ListRequest(Message):
    """Ask a node for all its data sets."""

    kind: Literal["list_request"] = "list_request"


class ListReply(Reply):
    """Describe all data sets of a node."""

    kind: Literal["list_reply"] = "list_reply"
    datasets: Annotated[tuple[DatasetDescription, ...], Field(max_length=2000)]


class SearchRequest(Message):
    """Ask a node for the data sets that carry all these tags."""

    kind: Literal["search_request"] = "search_request"
    tags: Annotated[tuple[Tag, ...], Field(min_length=1, max_length=50)]


class SearchReply(Reply):
    """Describe the data sets that match a search."""

    kind: Literal["search_reply"] = "search_reply"
    datasets: Annotated[tuple[DatasetDescription, ...], Field(max_length=2000)]


class RosterUpdate(Message):
    """Distribute a new roster; believed because the federation's authority signed it, not because of who sent it."""

    kind: Literal["roster_update"] = "roster_update"
    document: Annotated[str, Field(max_length=200_000)]
    """The roster as canonical JSON."""
    signature: Annotated[str, Field(max_length=1000)]
    """Signature of the document by the federation's authority, base64."""
