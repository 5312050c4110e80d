"""Let Prometheus read the metrics of this process, and let anybody ask whether it is well.

`/metrics` shows the registry. `/health` answers 200 if all is well and 503 if not, with one JSON document.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import json
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, Final, Self

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field, IPvAnyAddress, model_validator

from common import metrics
from common.errors import InvalidSettingsError, PortTakenError
from common.settings import Settings, Timeouts

log = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"

Health = Callable[[], tuple[bool, dict[str, object]]]
"""Tells whether all is well, and what to say about it; called on a thread of its own."""


class ExporterSettings(Settings):
    """Where metrics can be read, and by whom."""

    port: Annotated[int, Field(ge=0, le=65535)]
    """0 takes any that is free."""
    address: IPvAnyAddress = ipaddress.IPv4Address(LOOPBACK)
    login: Path | None = None
    """File with `name:password` that a reader must give."""
    certificate: Path | None = None
    """File with a certificate, and those that vouch for it, for TLS."""
    key: Path | None = None
    """File with its key."""

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if not self.address.is_loopback and self.login is None:
            raise ValueError("an address that others can reach needs a login")
        return self


class Exporter:
    """An HTTP server in threads of its own, until `close`."""

    def __init__(self, settings: ExporterSettings, health: Health) -> None:
        """Begin to serve.

        Raises:
            InvalidSettingsError: If login, certificate or key cannot be used.
            PortTakenError: If the port cannot be used.
        """
        login = None if settings.login is None else _login(settings.login)
        tls = _tls(settings)
        try:
            self._server = _Server((str(settings.address), settings.port), login, tls, health)
        except OSError as error:
            reason = error.strerror or str(error)
            raise PortTakenError(host=str(settings.address), port=settings.port, reason=reason) from error
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="exporter", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port that is served."""
        return self._server.server_port

    def close(self) -> None:
        """Serve no more."""
        self._closed.set()
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            self._server.handle_request()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], login: bytes | None, tls: ssl.SSLContext | None, health: Health
    ) -> None:
        self.login = login
        self.health = health
        self._tls = tls
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; TLS shakes hands when the thread that serves it first reads."""
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - those of the base class
        """Leave a client that goes away, or speaks no TLS, at that."""
        error = sys.exc_info()[1]
        log.debug("metrics not read", extra={"action": "metrics_not_read", "error": str(error)})


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = Timeouts().heartbeat_s  # a client that says nothing is let go
    server_version = "warren"
    sys_version = ""

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/health":
                healthy, said = self.server.health()
                status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
                body = json.dumps({"healthy": healthy, **said}).encode()
                self._answer(status, "application/json", body)
            case "/metrics" if not self._admitted():
                headers = {"WWW-Authenticate": 'Basic realm="warren"'}
                self._answer(HTTPStatus.UNAUTHORIZED, "text/plain", b"a login is needed\n", headers)
            case "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(metrics.REGISTRY))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics or /health\n")

    def _admitted(self) -> bool:
        wanted, given = self.server.login, self.headers.get("Authorization", "")
        return wanted is None or hmac.compare_digest(b"Basic " + base64.b64encode(wanted), given.encode())

    def _answer(
        self, status: HTTPStatus, kind: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Write nothing: a reader comes every few seconds."""


def _login(path: Path) -> bytes:
    try:
        found = path.read_bytes().strip()
    except OSError as error:
        raise InvalidSettingsError(source=str(path), problems=f"  {error}") from error
    name, _, password = found.partition(b":")
    if not name or not password or b"\n" in found:
        raise InvalidSettingsError(source=str(path), problems="  it must hold one line, name:password")
    return found


def _tls(settings: ExporterSettings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettingsError(source=str(settings.certificate), problems=f"  {error}") from error
    return context
