"""Open the federation of a home: once per process, locked against other processes."""

from __future__ import annotations

import atexit
import threading
from pathlib import Path
from typing import Final

from common.clock import SystemClock
from common.errors import BrokerUnreachableError, WarrenError
from common.mailbox import Mailbox
from common.metrics import TIMEOUTS
from common.security.expiry import Expiry
from common.transport.amqp import AmqpTransport
from researcher.directory import NodeStatus, read_snapshot
from researcher.exporter import settings_in
from researcher.federation import Federation
from researcher.home import Home, HomeLock

_OPEN: Final[dict[Path, Federation]] = {}
_LOCK: Final = threading.Lock()


def open_federation(path: Path) -> Federation:
    """Return the federation of a home; see `Federation.open`."""
    home = Home(path)
    with _LOCK:
        known = _OPEN.get(home.path)
        if known is None:
            known = _OPEN[home.path] = _enter(home)
    return known


def last_seen(path: Path) -> dict[str, NodeStatus]:
    """Return the nodes as the process that uses the home sees them."""
    return read_snapshot(Home(path).directory)


def _enter(home: Home) -> Federation:
    kit = home.load_kit()
    exported = settings_in()
    Expiry(kit.expires_at, SystemClock()).remind()
    lock = HomeLock.take(home)

    def leave() -> None:
        lock.release()
        with _LOCK:
            _OPEN.pop(home.path, None)

    try:
        mailbox = Mailbox.of_kit(kit, AmqpTransport(kit.connection, kit.ssl_context()))
        federation = Federation(mailbox, home.path, timeouts=kit.connection.timeouts, on_close=leave)
    except BaseException:
        lock.release()
        raise
    problem = federation.hub.wait_connected(kit.connection.timeouts.connect_s)
    if problem is not None:
        TIMEOUTS.labels(timeout="connect_s").inc()
        federation.hub.close()
        lock.release()
        raise BrokerUnreachableError(host=kit.connection.host, port=kit.connection.port, reason=problem)
    if exported is not None:
        try:
            federation.export_metrics(exported)
        except WarrenError:
            federation.close()
            raise
    atexit.register(federation.close)  # a script that ends without a word still frees its workers
    return federation
