"""Show the metrics of a node to its own hospital."""

from __future__ import annotations

from typing import Final

from prometheus_client import start_http_server

from common import metrics
from common.errors import PortTakenError

_LOOPBACK: Final = "127.0.0.1"


def export_metrics(port: int) -> None:
    """Let Prometheus read the metrics of this process on a port of the loopback, until the process ends.

    Raises:
        PortTakenError: If the port cannot be used.
    """
    try:
        start_http_server(port, addr=_LOOPBACK, registry=metrics.REGISTRY)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PortTakenError(host=_LOOPBACK, port=port, reason=reason) from error
