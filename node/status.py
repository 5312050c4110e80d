"""Tell other processes how an agent is doing, by a small file in its home."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

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


def write_status(path: Path, status: AgentStatus) -> None:
    """Replace the status file; a reader sees the old or the new one, never half of it.

    Raises:
        DiskFullError: If there is no space.
    """
    write_atomic(path, status.model_dump_json(indent=2).encode())


def read_status(path: Path) -> AgentStatus | None:
    """Return the last status, or None if there is none or another version wrote it in another way."""
    try:
        return AgentStatus.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
