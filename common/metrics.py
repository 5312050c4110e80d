"""Count what a party does, for Prometheus.

One registry for each process; exporters serve it, and code adds to the metrics below. Labels take few values.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY: Final = CollectorRegistry()

MESSAGES: Final = Counter(
    "warren_messages_total",
    "Messages that the broker confirmed (sent) or delivered (received)",
    ["lane", "direction"],
    registry=REGISTRY,
)
MESSAGE_BYTES: Final = Counter(
    "warren_message_bytes_total",
    "Bytes of the bodies of those messages",
    ["lane", "direction"],
    registry=REGISTRY,
)
REFUSED_MESSAGES: Final = Counter(
    "warren_refused_messages_total",
    "Messages that were not accepted: by this party (forged, oversize, failed) or by the broker (unroutable, full)",
    ["reason"],
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
