"""Tell other processes how an agent is doing, by a small file in its home."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from common.errors import DiskFullError
from common.ids import PartyId
from common.messages.base import Count, UnixTime
from common.security.files import write_atomic
from common.settings import Settings


class AgentStatus(Settings):
    """What an agent said about itself last."""

    party: PartyId
    pid: Count
    version: str
    started_at: UnixTime
    connected: bool
    """Whether it has a connection to the broker."""
    detail: str
    """Why not, or where to."""
    changed_at: UnixTime
    """When `connected` last changed."""
    notice: str | None = None
    """What its people should do something about; none if nothing."""
    paused: str | None = None
    """Why it does nothing for now; none if it works."""


def write_status(path: Path, status: AgentStatus) -> None:
    """Replace the status file; a reader sees the old or the new one, never half of it.

    On a full disk it is written over instead, which needs no space; a reader may then miss it for a moment.

    Raises:
        OSError: If it cannot be written.
    """
    content = status.model_dump_json(indent=2).encode()
    try:
        write_atomic(path, content, alone=True)
    except DiskFullError:
        if not path.exists():
            raise
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def read_status(path: Path) -> AgentStatus | None:
    """Return the last status, or None if there is none or another version wrote it in another way."""
    try:
        return AgentStatus.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
