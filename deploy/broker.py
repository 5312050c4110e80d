"""Run a private RabbitMQ for one federation, as a child of this process and of nothing else.

It is reached over mutual TLS alone; its HTTP API, metrics, and Erlang's own ports are on the loopback. It needs no
installed service, no root, and nothing in /etc. If this process dies in whatever way, the kernel ends RabbitMQ with it;
what it had confirmed is on disk.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import secrets
import selectors
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from common.errors import (
    BrokerMissingError,
    BrokerStartError,
    BrokerStoppedError,
)
from common.security.files import write_atomic, write_private
from common.settings import Timeouts
from deploy.configuration import ENABLED_PLUGINS, BrokerPlaces, rabbitmq_conf
from deploy.definitions import full, with_operator
from deploy.endpoint import Endpoint, remove_endpoint, take_lock, write_endpoint
from deploy.federation import Federation
from deploy.ports import Reservation

_LOG: Final = logging.getLogger(__name__)

SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The program itself; the one in /usr/sbin is Debian's wrapper, which changes user and folder."""

SERVER_VARIABLE: Final = "WARREN_RABBITMQ_SERVER"
"""Environment variable that names another `rabbitmq-server`."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFINITIONS: Final = "definitions.json"
_LAZY_UNTIL: Final = 4
_NOTICE_BYTES: Final = 4096


class PrivateBroker:
    """A RabbitMQ that lives in `broker/` of a federation's folder. Not thread-safe.

    The kernel ties the broker to the *thread* that starts it: start it from one that lives as long.
    """

    def __init__(
        self, federation: Federation, *, disposable: bool = False, timeouts: Timeouts | None = None
    ) -> None:
        """Prepare, without doing anything yet.

        Args:
            federation: Whose broker it is.
            disposable: Whether nobody needs its data: it is then killed instead of stopped, which takes 6 s less.
            timeouts: `worker_start_s` is the longest that it may take to start, `connect_s` to stop.
        """
        self.folder = federation.path.resolve() / "broker"
        self.log = self.folder / "log" / "rabbitmq.log"
        self._console = self.folder / "log" / "console.log"
        self._federation = federation
        self._disposable = disposable
        self._timeouts = timeouts or Timeouts()
        self._lock: int | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._notices: socket.socket | None = None
        self._ports: Reservation | None = None
        self._endpoint: Endpoint | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> Endpoint:
        """Return where the broker answers; it must have been launched."""
        if self._endpoint is None:
            raise RuntimeError("the broker was not launched")
        return self._endpoint

    def start(self) -> None:
        """Start the broker, unless it was launched before, and wait until parties can connect.

        After a failure nothing runs.

        Raises:
            BrokerMissingError: If RabbitMQ is not installed.
            BrokerRunningError: If the federation's broker runs already.
            PortTakenError: If another program listens on the federation's port.
            BrokerStartError: If it ended, or was not ready in time.
        """
        if self._server is None:
            self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the broker without waiting for it: `wait_ready` does. Raises what `start` does."""
        server = find_server()
        self.folder.mkdir(exist_ok=True)
        self._lock = take_lock(self.folder)
        try:
            self._launch(server)
        except BaseException:
            self.kill()
            raise

    def wait_ready(self) -> None:
        """Wait until parties can connect, told by RabbitMQ itself. After a failure nothing runs.

        Raises:
            BrokerStartError: If it ended, or was not ready in time.
        """
        try:
            self._await_notice(time.monotonic() + self._timeouts.worker_start_s)
            # From here on other processes bring their changes themselves; what they did before is made up for, and
            # whoever was revoked while the broker was down goes: at boot RabbitMQ only adds.
            write_endpoint(self.folder, self.endpoint)
            self.endpoint.follow(Federation.load(self._federation.path))
        except BaseException:
            self.kill()
            raise
        self._release_start()
        _LOG.info("broker ready", extra={"action": "broker_ready", "port": self.endpoint.port})

    def wait(self) -> None:
        """Wait until the broker ends, which it only does by itself if something is wrong.

        Raises:
            BrokerStoppedError: Always, in the end.
        """
        if self._server is not None:
            raise BrokerStoppedError(status=self._server.wait(), log=str(self.log))

    def stop(self) -> None:
        """Stop the broker cleanly, or kill it if it is disposable or too slow. Nothing remains running. Idempotent."""
        try:
            if self._server is not None and not self._disposable:
                self._server.terminate()
                self._server.wait(self._timeouts.connect_s)
        except subprocess.TimeoutExpired:
            _LOG.warning("broker did not stop in time, killing it", extra={"action": "broker_killed"})
        finally:
            self.kill()

    def kill(self) -> None:
        """End the broker at once, as a power failure would. Nothing remains running. Idempotent."""
        for process in (self._server, self._epmd):
            if process is not None:
                process.kill()
                process.wait()
        self._server = self._epmd = None
        self._release_start()
        if self._lock is not None:
            remove_endpoint(self.folder)
            os.close(self._lock)
            self._lock = None

    def _release_start(self) -> None:
        """Let go of what is only needed while the broker boots."""
        for thing in (self._notices, self._ports):
            if thing is not None:
                thing.close()
        self._notices = self._ports = None

    def _launch(self, server: Path) -> None:
        settings = self._federation.settings
        address = "127.0.0.1" if _is_loopback(settings.host) else "0.0.0.0"  # noqa: S104  parties dial in from outside
        self._ports = Reservation(address)
        self._ports.take(settings.port)
        management, prometheus, distribution, epmd = (self._ports.take_any() for _ in range(4))
        self._endpoint = Endpoint(
            host=settings.host,
            port=settings.port,
            management_port=management,
            prometheus_port=prometheus,
            lazy=_is_lazy(server),
            password=secrets.token_urlsafe(24),
        )
        places = BrokerPlaces(
            address,
            settings.port,
            management,
            prometheus,
            self.folder,
            self.folder / _DEFINITIONS,
            self.log,
        )
        self._write_files(places)
        environment = self._environment(distribution, epmd)
        self._epmd = self._spawn(("epmd", "-port", str(epmd), "-address", "127.0.0.1"), environment)
        _await_listener(epmd, self._timeouts.connect_s, self._console)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify = f"warren-{secrets.token_hex(16)}"
        self._notices.bind(f"\0{notify}")
        environment["NOTIFY_SOCKET"] = f"@{notify}"
        self._server = self._spawn((str(server),), environment)
        self._endpoint = replace(self._endpoint, pid=self._server.pid)

    def _write_files(self, places: BrokerPlaces) -> None:
        for name in ("data", "log", "home"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        settings = self._federation.settings
        definitions = full(self._federation.roster, settings.vhost, settings.limits, lazy=self.endpoint.lazy)
        document = with_operator(definitions, self.endpoint.password)
        write_private(self.folder / _DEFINITIONS, json.dumps(document).encode())
        write_atomic(self.folder / "ca.pem", self._federation.authority.cert_pem)
        write_atomic(self.folder / "rabbitmq.conf", rabbitmq_conf(places).encode())
        write_atomic(self.folder / "enabled_plugins", ENABLED_PLUGINS.encode())
        cookie = self.folder / "home" / ".erlang.cookie"
        if not cookie.exists():
            write_atomic(cookie, secrets.token_hex(20).encode(), mode=0o400)

    def _environment(self, distribution_port: int, epmd_port: int) -> dict[str, str]:
        """Return all that RabbitMQ's scripts look at, so that nothing of the system's own broker is used."""
        folder = self.folder
        return {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            # The name is part of the database's identity.
            "RABBITMQ_NODENAME": "warren@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_MNESIA_DIR": str(folder / "data" / "node"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "data" / "feature_flags"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "home"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "home"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "ERL_CRASH_DUMP": str(folder / "log" / "erl_crash.dump"),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Makes the script become Erlang, so that the process we started is the broker.
            "RUNNING_UNDER_SYSTEMD": "true",
            # RabbitMQ has Erlang keep 30 freed pieces of memory for later, which is much when messages are large; 10 is Erlang's own choice.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +MMmcs 10 +S 2:2",
        }

    def _spawn(self, command: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a process that the kernel kills when this thread ends, whatever way."""
        with self._console.open("ab") as output:
            return subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", *command),  # noqa: S607  found on the path that is set above
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _await_notice(self, deadline: float) -> None:
        """Wait for RabbitMQ's READY=1 (the protocol of sd_notify), its end, or the deadline."""
        if self._server is None or self._notices is None:
            raise RuntimeError("the broker was not launched")
        ended = os.pidfd_open(self._server.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._notices, selectors.EVENT_READ)
                selector.register(ended, selectors.EVENT_READ)
                while (left_s := deadline - time.monotonic()) > 0:
                    ready = {key.fileobj for key, _ in selector.select(left_s)}
                    if self._notices in ready and b"READY=1" in self._notices.recv(_NOTICE_BYTES).split(
                        b"\n"
                    ):
                        return
                    if ended in ready:
                        raise BrokerStartError(
                            reason=f"it ended with status {self._server.wait()}", log=str(self.log)
                        )
        finally:
            os.close(ended)
        raise BrokerStartError(
            reason=f"it was not ready within {self._timeouts.worker_start_s:g} s", log=str(self.log)
        )


def find_server() -> Path:
    """Return RabbitMQ's server program.

    Raises:
        BrokerMissingError: If it, or a program that it needs, is not installed.
    """
    server = Path(os.environ.get(SERVER_VARIABLE, SERVER))
    if not os.access(server, os.X_OK):
        raise BrokerMissingError(path=str(server))
    for needed in ("epmd", "erl", "setpriv"):
        if shutil.which(needed, path=_PATH) is None:
            raise BrokerMissingError(path=f"{server} with {needed}")
    return server


def _await_listener(port: int, limit_s: float, log: Path) -> None:
    """Wait until a process that says nothing listens on a port, as epmd must before RabbitMQ would start its own."""
    deadline, pause, never = time.monotonic() + limit_s, 0.002, threading.Event()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), limit_s).close()
            return
        except ConnectionRefusedError as error:
            if time.monotonic() > deadline:
                raise BrokerStartError(reason=f"epmd does not answer on port {port}", log=str(log)) from error
        never.wait(pause)
        pause = min(2 * pause, 0.1)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_lazy(server: Path) -> bool:
    """Say whether the program's folder names a RabbitMQ 3.x."""
    found = re.search(r"rabbitmq_server-(\d+)\.", str(server.resolve()))
    return found is not None and int(found[1]) < _LAZY_UNTIL
