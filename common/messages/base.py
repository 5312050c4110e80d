"""Define what every message carries."""

from __future__ import annotations

import time
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from common.ids import ExperimentId, MessageId, PartyId, RunId, TaskId, new_uuid

PROTOCOL_VERSION: Final = "1.0"
"""Version of all messages together. A changed schema needs a new one; the golden schema test insists."""

Text = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=100)]
UnixTime = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Duration = Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]


class Part(BaseModel):
    """A frozen part of a message; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Message(Part):
    """One message from one party to one or more others."""

    protocol: str = PROTOCOL_VERSION
    message_id: MessageId = Field(default_factory=lambda: MessageId(new_uuid()))
    sender: PartyId
    recipients: Annotated[tuple[PartyId, ...], Field(min_length=1, max_length=2000)]
    created_at: UnixTime = Field(default_factory=time.time)
    deadline: UnixTime | None = None
    """Unix time after which the message is of no use and must be dropped."""


class Reply(Message):
    """An answer to one request."""

    request_id: MessageId


class ExperimentMessage(Message):
    """A message about one run of one experiment."""

    experiment_id: ExperimentId
    run_id: RunId
    """The incarnation of the experiment; work of an older one never runs."""


class TaskMessage(ExperimentMessage):
    """A message about one node's share of one round."""

    task_id: TaskId
    round: Count
