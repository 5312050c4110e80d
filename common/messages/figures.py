"""Let a node tell how it works: counts and sizes of its own, never anything about data."""

from __future__ import annotations

from typing import Literal

from common.messages.base import Count, Duration, Part, UnixTime

TaskOutcome = Literal["trained", "failed", "cancelled"]
TaskPhase = Literal["waiting", "running", "unsent"]
LaneName = Literal["control", "bulk", "telemetry"]


class NodeFigures(Part):
    """What an agent has done since it started, and what it uses now.

    All keys come from fixed lists, so whoever shows this by node has a bounded number of series.
    """

    tasks: dict[TaskOutcome, Count]
    """Tasks that ended, by how."""
    open_tasks: dict[TaskPhase, Count]
    """Tasks that have not ended, by how far they have come."""
    task_retries: Count
    """Tasks that were begun once more after the agent died in them."""
    sent_bytes: dict[LaneName, Count]
    received_bytes: dict[LaneName, Count]
    refused_messages: Count
    connections: Count
    """Times that it connected to the broker."""
    cpu_s: Duration
    """Processor time of the agent."""
    resident_bytes: Count
    workers: Count
    worker_cpu_s: Duration
    """Processor time of all workers, also of those that have ended."""
    worker_resident_bytes: Count
    disk_free_bytes: Count
    disk_floor_bytes: Count
    """Less than this stops all tasks."""
    certificate_expires_at: UnixTime
