"""Count what a party does, for Prometheus.

One registry for each process; exporters serve it, and code adds to the metrics below. Labels take few values. What only nodes or
only researchers have is in `node.figures` and `researcher.monitoring.figures`.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each counter that tells nothing but the start of the process
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # process_cpu_seconds_total, process_resident_memory_bytes and their like

BUILD_INFO: Final = Gauge(
    "warren_build_info",
    "1; the labels say which versions run",
    ["version", "python"],
    registry=REGISTRY,
)
BUILD_INFO.labels(version("warren-fl"), platform.python_version()).set(1)

MESSAGES: Final = Counter(
    "warren_messages_total",
    "Messages that the broker confirmed (sent) or delivered (received)",
    ["lane", "direction"],
    registry=REGISTRY,
)
MESSAGE_BYTES: Final = Counter(
    "warren_message_bytes_total",
    "Bytes of the bodies of messages that the broker confirmed (sent) or delivered (received)",
    ["lane", "direction"],
    registry=REGISTRY,
)
REFUSED_MESSAGES: Final = Counter(
    "warren_refused_messages_total",
    "Messages that were not accepted: by this party (forged, oversize, failed) or by the broker (unroutable, full)",
    ["reason"],
    registry=REGISTRY,
)
RESENT_MESSAGES: Final = Counter(
    "warren_resent_messages_total",
    "Messages that were sent once more because a connection ended before the broker confirmed them",
    ["lane"],
    registry=REGISTRY,
)
UNCONFIRMED_MESSAGES: Final = Gauge(
    "warren_unconfirmed_messages",
    "Messages of this party that the broker does not have yet: they wait, or are on their way",
    registry=REGISTRY,
)
CONNECTED: Final = Gauge(
    "warren_broker_connected", "Whether this party is connected to the broker", registry=REGISTRY
)
BLOCKED: Final = Gauge(
    "warren_broker_blocked",
    "Whether the broker takes no messages for lack of memory or disk",
    registry=REGISTRY,
)
CONNECTIONS: Final = Counter(
    "warren_broker_connections_total", "Times that this party connected to the broker", registry=REGISTRY
)
CERTIFICATE_EXPIRES: Final = Gauge(
    "warren_certificate_expires_timestamp_seconds",
    "Unix time at which the certificate of this party, or that of its authority, expires",
    registry=REGISTRY,
)
TIMEOUTS: Final = Counter(
    "warren_timeouts_total",
    "Time limits that fired, by the name of the setting",
    ["timeout"],
    registry=REGISTRY,
)
DISK_FREE: Final = Gauge(
    "warren_disk_free_bytes", "Free space on the disk of the home of this party", registry=REGISTRY
)


def values(metric: MetricWrapperBase, label: str | None = None) -> dict[str, float]:
    """Return what a counter or gauge stands at, summed by one of its labels; everything is under "" without a label."""
    found: dict[str, float] = {}
    for family in metric.collect():
        for sample in family.samples:
            key = sample.labels[label] if label else ""
            found[key] = found.get(key, 0.0) + sample.value
    return found
