"""Write the configuration of a federation's broker: `rabbitmq.conf` and `enabled_plugins`.

All keys are understood by RabbitMQ 3.10 to 4.x; an unknown one would keep it from booting.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

ENABLED_PLUGINS: Final = "[rabbitmq_auth_mechanism_ssl,rabbitmq_management,rabbitmq_prometheus].\n"
"""Certificates as log-in, the HTTP API through which parties come and go, and metrics."""

MESSAGE_BYTES: Final = 2 * 2**20
"""Largest message that the broker takes, a sealed chunk with room to spare; by itself it would take 16 or 128 MiB."""

CONSUMER_TIMEOUT_MS: Final = 3_600_000
"""Parties acknowledge within seconds; this only frees what a hung one holds."""


_EMBEDDED_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class BrokerPlaces:
    """Where a broker listens and where its files are.

    Attributes:
        address: IP address of the AMQP listener.
        port: Its TLS port.
        management_port: Port of the HTTP API, on the loopback.
        prometheus_port: Port of the metrics.
        tls: Folder with `ca.pem`, `server.pem` and `server.key`.
        definitions: The definitions to import at boot.
        log: The log file; None leaves logging as it is.
        prometheus_address: IP address of the metrics, which ask for no login.
    """

    address: str
    port: int
    management_port: int
    prometheus_port: int
    tls: PurePath
    definitions: PurePath
    log: PurePath | None = None
    prometheus_address: str = "127.0.0.1"


def rabbitmq_conf(places: BrokerPlaces) -> str:
    """Return `rabbitmq.conf`: AMQP over mutual TLS and nothing else, the HTTP API on the loopback."""
    lines = [
        "# Written by Warren. TLS with a certificate of the federation is the only way in.",
        "listeners.tcp = none",
        f"listeners.ssl.default = {places.address}:{places.port}",
        f"ssl_options.cacertfile = {places.tls / 'ca.pem'}",
        f"ssl_options.certfile = {places.tls / 'server.pem'}",
        f"ssl_options.keyfile = {places.tls / 'server.key'}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "ssl_options.depth = 1",
        "ssl_options.versions.1 = tlsv1.3",
        "ssl_options.versions.2 = tlsv1.2",
        "auth_mechanisms.1 = EXTERNAL",
        "ssl_cert_login_from = common_name",
        "",
        "management.tcp.ip = 127.0.0.1",
        f"management.tcp.port = {places.management_port}",
        f"prometheus.tcp.ip = {places.prometheus_address}",
        f"prometheus.tcp.port = {places.prometheus_port}",
        "",
        "# With definitions RabbitMQ makes no user `guest` and no virtual host `/`.",
        f"load_definitions = {places.definitions}",
        "",
        f"max_message_size = {MESSAGE_BYTES}",
        f"consumer_timeout = {CONSUMER_TIMEOUT_MS}",
        "vm_memory_high_watermark.relative = 0.5",
        "",
        "# What goes for a small model lies in the queue and not in the store for large messages: a fifth less work for the broker.",
        f"queue_index_embed_msgs_below = {_EMBEDDED_BYTES}",
        "disk_free_limit.absolute = 1GB",
    ]
    if places.log is not None:
        lines += [
            "",
            "log.console = false",
            f"log.file = {places.log}",
            "log.file.level = info",
            "log.file.rotation.size = 10485760",
            "log.file.rotation.count = 5",
        ]
    return "\n".join([*lines, ""])
