"""Serve the page; `python -m node.gui.server HOME FD LISTEN OUTPUT` does it beside the agent, until the other end of FD is closed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvicorn
from cryptography import x509

from common import logs
from common.errors import InvalidSettingsError, PortTakenError, WarrenError
from common.security.files import write_private
from node.gui.app import build
from node.gui.listen import Listen
from node.gui.live import end_streams
from node.gui.site import LOOPBACK_NAMES, Site
from node.home import NodeHome

log = logging.getLogger("node.gui.server")  # also when this file is the main program

_CONNECTIONS: Final = 200
_HEADER_BYTES: Final = 16 * 1024


def serve(
    home: NodeHome, listen: Listen, *, ready: Callable[[str, str | None], None], until: int | None = None
) -> None:
    """Serve the page of a node until SIGTERM or SIGINT, or until the other end of a pipe is closed.

    Args:
        home: The node.
        listen: Where.
        ready: Told the address of the page, and the link that sets it up if nobody can log in yet.
        until: The end of a pipe to read from.

    Raises:
        InvalidSettingsError: If the certificate or its key cannot be used.
        PortTakenError: If the port cannot be used.
        StorageError: If the database of the page cannot be used.
    """
    tls = listen.certificate is not None
    hosts = LOOPBACK_NAMES if listen.certificate is None else LOOPBACK_NAMES | _names(listen.certificate)
    _check_tls(listen)
    with contextlib.closing(_bound(listen)) as port:
        listen = listen.model_copy(update={"port": port.getsockname()[1]})
        site = Site.open(home, hosts=hosts, tls=tls, beside=None if until is None else listen)
        with contextlib.closing(site):
            server = _Server(_config(build(site), listen))
            if until is not None:
                threading.Thread(target=_end_with, args=(until, server), name="agent", daemon=True).start()
            address = _address(listen)
            link = None if site.people.anybody() else f"{address}/join/{site.links.make(None)}"
            log.info("page served", extra={"action": "page_served", "address": address})
            ready(address, link)
            # uvicorn ends in order at Ctrl-C, and then raises it once more
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[port])


class _Server(uvicorn.Server):
    """Ends its streams before it waits for its requests."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End everything."""
        end_streams()
        await super().shutdown(sockets)


def _config(app: Any, listen: Listen) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        loop="asyncio",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_graceful_shutdown=1,
        ssl_certfile=listen.certificate,
        ssl_keyfile=listen.key,
    )


def _bound(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if listen.host.version == 6 else socket.AF_INET
    try:
        return socket.create_server((str(listen.host), listen.port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PortTakenError(host=str(listen.host), port=listen.port, reason=reason) from error


def _check_tls(listen: Listen) -> None:
    if listen.certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listen.certificate, listen.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettingsError(source=str(listen.certificate), problems=f"  {error}") from error


def _names(certificate: Path) -> frozenset[str]:
    """Return the names in a certificate, as a Host header has them."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise InvalidSettingsError(source=str(certificate), problems=f"  {error}") from error
    addresses = names.get_values_for_type(x509.IPAddress)
    hosts = (str(one) if one.version == 4 else f"[{one}]" for one in addresses)
    return frozenset(name.lower() for name in (*names.get_values_for_type(x509.DNSName), *hosts))


def _address(listen: Listen) -> str:
    host = str(listen.host)
    if listen.certificate is not None:
        host = min(_names(listen.certificate) - LOOPBACK_NAMES, default=host)
    elif listen.host.version == 6:
        host = f"[{host}]"
    return f"{'http' if listen.certificate is None else 'https'}://{host}:{listen.port}"


def _end_with(pipe: int, server: uvicorn.Server) -> None:
    os.read(pipe, 1)
    server.should_exit = True


def _beside(home: NodeHome, pipe: int, listen: Listen, *, terminal: bool) -> int:
    """Be the process beside an agent, and return its exit code.

    Without a terminal, the link that sets the page up goes into a file that only its owner can read.
    """
    logs.configure("INFO", file=home.log / "gui.jsonl", stream=None)

    def ready(address: str, link: str | None) -> None:
        lines = [f"the page of {home.connection().party} is at {address}"]
        if link is None:
            home.gui_link_path.unlink(missing_ok=True)
        elif terminal:
            lines.append(f"nobody has an account yet; make the first one here, within a day: {link}")
        else:
            write_private(home.gui_link_path, f"{link}\n".encode())
            lines.append(f"nobody has an account yet; the link for the first one is in {home.gui_link_path}")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    try:
        serve(home, listen, ready=ready, until=pipe)
    except WarrenError as error:
        log.critical("page ended by an error", extra={"action": "page_failed", "error": str(error)})
        sys.stderr.write(f"no page: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    path, descriptor, where, output = sys.argv[1:]
    listen = Listen.model_validate_json(where)
    sys.exit(_beside(NodeHome.open(Path(path)), int(descriptor), listen, terminal=output == "terminal"))
