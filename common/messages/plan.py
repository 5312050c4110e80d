"""Ask the people of a node to approve a training plan."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from common.ids import Digest
from common.limits import PLAN_SOURCE_BYTES
from common.messages.base import Message, Name, Reply, Text, UnixTime

PlanSource = Annotated[str, Field(min_length=1, max_length=PLAN_SOURCE_BYTES)]


class PlanState(StrEnum):
    """What the people of a node decided about a plan."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class PlanApprovalRequest(Message):
    """Show a plan to the people of a node and ask for their approval."""

    kind: Literal["plan_approval_request"] = "plan_approval_request"
    plan_name: Name
    plan_hash: Digest
    source: PlanSource
    note: Text = ""


class PlanApprovalReply(Reply):
    """Confirm that the request is before the people of the node."""

    kind: Literal["plan_approval_reply"] = "plan_approval_reply"
    plan_hash: Digest
    state: PlanState
    note: Text = ""


class PlanStatusRequest(Message):
    """Ask what was decided about a plan."""

    kind: Literal["plan_status_request"] = "plan_status_request"
    plan_hash: Digest


class PlanStatusReply(Reply):
    """Tell what was decided about a plan."""

    kind: Literal["plan_status_reply"] = "plan_status_reply"
    plan_hash: Digest
    state: PlanState
    required: bool
    """Whether this node runs approved plans only."""
    note: Text = ""
    decided_at: UnixTime | None = None
    limits: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    """What its arguments are bound to, such as `epochs<=5`."""
