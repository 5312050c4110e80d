"""Serve the page: `python -m node.gui.server HOME FD LISTEN` does it beside the agent, until the other end of FD is closed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from cryptography import x509

from common import logs
from common.errors import InvalidSettingsError, PortTakenError
from common.security.files import write_private
from common.settings import Timeouts
from node.gui.app import build
from node.gui.listen import Listen
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
        site = Site.open(home, hosts=hosts, tls=tls, beside_agent=until is not None)
        with contextlib.closing(site):
            server = uvicorn.Server(_config(build(site), listen))
            if until is not None:
                threading.Thread(target=_end_with, args=(until, server), name="agent", daemon=True).start()
            address = _address(port, listen)
            link = None if site.people.anybody() else f"{address}/join/{site.links.make(None)}"
            log.info("page served", extra={"action": "page_served", "address": address})
            ready(address, link)
            server.run(sockets=[port])


@contextlib.contextmanager
def beside(home: NodeHome, listen: Listen) -> Iterator[None]:
    """Serve the page in a process of its own as long as the block runs.

    Whatever becomes of that process, this one goes on; and when this one ends, however it ends, that one does too.
    """
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-P",
        "-m",
        "node.gui.server",
        str(home.path),
        str(reader),
        listen.model_dump_json(),
    ]
    with (home.log / "gui.out").open("ab") as output:
        page = subprocess.Popen(
            command,
            pass_fds=(reader,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        try:
            page.wait(Timeouts().stop_s * 2)
        except subprocess.TimeoutExpired:
            log.warning("page killed", extra={"action": "page_killed", "pid": page.pid})
            page.kill()
            page.wait()


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


def _address(port: socket.socket, listen: Listen) -> str:
    host, number = str(listen.host), port.getsockname()[1]
    if listen.certificate is not None:
        host = min(_names(listen.certificate) - LOOPBACK_NAMES, default=host)
    elif listen.host.version == 6:
        host = f"[{host}]"
    return f"{'http' if listen.certificate is None else 'https'}://{host}:{number}"


def _end_with(pipe: int, server: uvicorn.Server) -> None:
    os.read(pipe, 1)
    server.should_exit = True


def _serve_beside(home: NodeHome, pipe: int, listen: Listen) -> None:
    """Be the process beside an agent; the link that sets the page up goes into a file that only its owner can read."""
    logs.configure("INFO", file=home.log / "gui.jsonl", stream=None)

    def ready(address: str, link: str | None) -> None:
        if link is None:
            home.gui_link_path.unlink(missing_ok=True)
        else:
            write_private(home.gui_link_path, f"{link}\n".encode())
        log.info("page ready", extra={"action": "page_ready", "address": address})

    serve(home, listen, ready=ready, until=pipe)


if __name__ == "__main__":
    _serve_beside(NodeHome.open(Path(sys.argv[1])), int(sys.argv[2]), Listen.model_validate_json(sys.argv[3]))
