"""Show Prometheus what the nodes tell, which nobody can ask them for: they only dial out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common.ids import PartyId
from researcher.directory import NodeStatus
from researcher.monitoring.families import NODE_FAMILIES, Value, shown


class NodesCollector(Collector):
    """Shows what nodes tell, which nobody can ask them for: they only dial out."""

    def __init__(self, nodes: Callable[[], Mapping[PartyId, NodeStatus]]) -> None:
        self._nodes = nodes

    def describe(self) -> Iterable[Metric]:
        """Return the families, without series."""
        return shown(NODE_FAMILIES, {})

    def collect(self) -> Iterable[Metric]:
        """Return the families with their series."""
        found: dict[str, list[tuple[tuple[str, ...], Value]]] = {}
        for node, status in self._nodes().items():
            for name, labels, value in _series_of_node(status):
                found.setdefault(name, []).append(((node, *labels), value))
        return shown(NODE_FAMILIES, found)


def _series_of_node(status: NodeStatus) -> Iterator[tuple[str, tuple[str, ...], Value]]:
    """Yield name, further labels and value of each series of a node."""
    if status.online is not None:
        yield "warren_node_up", (), status.online
    if status.last_seen is not None:
        yield "warren_node_last_seen_timestamp_seconds", (), status.last_seen
    if (info := status.info) is not None:
        yield "warren_node_info", (info.version, info.python), 1
        yield "warren_node_start_time_seconds", (), info.started_at
        yield "warren_node_datasets", (), info.datasets
    if (figures := status.figures) is None:
        return
    for phase, count in figures.open_tasks.items():
        yield "warren_node_open_tasks", (phase,), count
    for outcome, count in figures.tasks.items():
        yield "warren_node_tasks", (outcome,), count
    for direction, lanes in (("sent", figures.sent_bytes), ("received", figures.received_bytes)):
        for lane, size in lanes.items():
            yield "warren_node_message_bytes", (lane, direction), size
    yield "warren_node_task_retries", (), figures.task_retries
    yield "warren_node_refused_messages", (), figures.refused_messages
    yield "warren_node_broker_connections", (), figures.connections
    yield "warren_node_cpu_seconds", (), figures.cpu_s
    yield "warren_node_resident_memory_bytes", (), figures.resident_bytes
    yield "warren_node_workers", (), figures.workers
    yield "warren_node_worker_cpu_seconds", (), figures.worker_cpu_s
    yield "warren_node_worker_resident_memory_bytes", (), figures.worker_resident_bytes
    yield "warren_node_disk_free_bytes", (), figures.disk_free_bytes
    yield "warren_node_disk_floor_bytes", (), figures.disk_floor_bytes
    yield "warren_node_certificate_expires_timestamp_seconds", (), figures.certificate_expires_at
