"""Show the metrics of a node to its own hospital, and say whether it is well."""

from __future__ import annotations

from common.exporter import Exporter
from node.home import NodeHome
from node.policy import Policy
from node.status import AgentStatus, read_status


def node_exporter(home: NodeHome, policy: Policy) -> Exporter | None:
    """Begin to serve metrics and health of the agent of this home, if its policy says where.

    Raises:
        InvalidSettingsError: If login, certificate or key cannot be used.
        PortTakenError: If the port cannot be used.
    """
    settings = policy.exporter()
    return None if settings is None else Exporter(settings, lambda: health(read_status(home.status_path)))


def health(status: AgentStatus | None) -> tuple[bool, dict[str, object]]:
    """Tell whether an agent does its work, from what it said last: it is connected and does not pause."""
    if status is None:
        return False, {"connected": False, "paused": False}
    paused = status.paused is not None
    return status.connected and not paused, {"connected": status.connected, "paused": paused}
