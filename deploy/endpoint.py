"""Know where the private broker of a federation answers, and let only one run.

Whoever holds the lock file is the broker's process; a description without a lock is left over and not believed.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from common.errors import BrokerRunningError, NotAFederationError
from common.security.files import write_private
from deploy.admin import Admin
from deploy.definitions import OPERATOR, full, obsolete
from deploy.federation import Federation

_ENDPOINT: Final = "running.json"
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a running private broker answers."""

    host: str
    port: int
    """AMQP over TLS."""
    management_port: int
    prometheus_port: int
    lazy: bool
    """Whether it is a RabbitMQ 3.x, whose bulk queues must be told to live on disk."""
    password: str = field(repr=False)
    """Of the HTTP API's user; made anew at each start."""
    pid: int = 0

    def admin(self, vhost: str) -> Admin:
        """Return a client of the HTTP API."""
        return Admin(self.management_port, OPERATOR, self.password, vhost)

    def follow(self, federation: Federation) -> None:
        """Bring the broker to the roster: add what is missing, remove what was revoked. Can be repeated.

        Raises:
            BrokerAdminError: If the broker did not take the change, or only a part of it.
        """
        settings = federation.settings
        admin = self.admin(settings.vhost)
        admin.import_definitions(full(federation.roster, settings.vhost, settings.limits, lazy=self.lazy))
        admin.remove(obsolete(federation.roster, admin.names()))


def running_endpoint(federation: Federation) -> Endpoint | None:
    """Return where the federation's private broker answers, or None if none runs.

    Raises:
        NotAFederationError: If its file is damaged.
    """
    folder = federation.path / "broker"
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_endpoint(folder)
    finally:
        os.close(descriptor)
    return None


def write_endpoint(folder: Path, endpoint: Endpoint) -> None:
    """Tell other processes of this user where the broker answers."""
    write_private(folder / _ENDPOINT, json.dumps(asdict(endpoint)).encode())


def remove_endpoint(folder: Path) -> None:
    """Forget where the broker answered."""
    (folder / _ENDPOINT).unlink(missing_ok=True)


def _read_endpoint(folder: Path) -> Endpoint | None:
    path = folder / _ENDPOINT
    try:
        return Endpoint(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise NotAFederationError(path=str(folder.parent), reason=f"{path} is damaged") from error


def take_lock(folder: Path) -> int:
    """Return the open lock of a broker's folder; closing it, as any end of the process does, gives it back.

    Raises:
        BrokerRunningError: If another process holds it.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        running = _read_endpoint(folder)
        raise BrokerRunningError(path=str(folder.parent), pid=running.pid if running else "?") from error
    remove_endpoint(folder)
    return descriptor
