"""Find out what a party lacks: what is the same for nodes, researchers and operators.

A check returns findings; each says that something is well, or what is wrong and what to do. None of them changes anything.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil
import typer
from cryptography import x509
from rich.markup import escape

from common.cli import FAILED, emit
from common.errors import WarrenError
from common.security.expiry import WARN_DAYS
from common.security.kit import Kit
from common.transport.amqp_probe import probe
from common.transport.topology import inboxes

_GIB: Final = 1024**3
_DAY_S: Final = 86400.0
_LEAST_MEMORY_BYTES: Final = 2 * _GIB
_TIME_ERROR: Final = 5
"""What the kernel says of a clock that nothing keeps right."""
_COLOURS: Final = {"ok": "green", "note": "yellow", "wrong": "bold red"}


class Health(StrEnum):
    """How something is."""

    OK = "ok"
    NOTE = "note"
    """It works without."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        subject: What was looked at.
        health: How it is.
        text: What was found.
        advice: What to do; empty if nothing is to be done.
    """

    subject: str
    health: Health
    text: str
    advice: str = ""

    @classmethod
    def of(cls, subject: str, error: WarrenError) -> Finding:
        """Return that something is wrong."""
        return cls(subject, Health.WRONG, str(error), error.advice)


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print findings for a person or a program; exits with 1 if something is wrong."""
    healthy = all(finding.health is not Health.WRONG for finding in findings)
    document = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
    emit(document, *(line for finding in findings for line in _lines(finding)), as_json=as_json)
    if not healthy:
        raise typer.Exit(FAILED)


def versions() -> Finding:
    """Say what runs."""
    packages = (f"{name} {version(name)}" for name in ("warren-fl", "torch"))
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    return Finding(
        "versions", Health.OK, ", ".join([*packages, f"python {platform.python_version()}", system])
    )


def kit_finding(kit: Kit, renewal: str) -> Finding:
    """Say for how long a kit is good; `renewal` is the command that puts a renewed one in its place."""
    days = kit.days_left(time.time())
    text = f"{kit.connection.party} of {kit.connection.federation}, valid for {days:.0f} days"
    if days >= WARN_DAYS:
        return Finding("kit", Health.OK, text)
    return Finding(
        "kit", Health.NOTE, text, f"ask the federation operator for a renewed kit, then: {renewal}"
    )


def way_to_broker(kit: Kit) -> Iterator[Finding]:
    """Go to the broker step by step: name, TCP, TLS, login with permissions and a round trip; ends with the first that fails."""
    connection = kit.connection
    where = f"{connection.host}:{connection.port}"
    try:
        found = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
    except OSError as error:
        advice = f"correct host in {kit.path}/connection.toml, or let the name server of this machine know the name"
        yield Finding("name", Health.WRONG, f"{connection.host} is not known: {error.strerror}", advice)
        return
    yield Finding(
        "name", Health.OK, f"{connection.host} is {', '.join(sorted({str(one[4][0]) for one in found}))}"
    )
    started = time.monotonic()
    try:
        line = socket.create_connection((connection.host, connection.port), connection.timeouts.connect_s)
    except OSError as error:
        advice = f"see that the broker runs, and let the firewall of this machine pass TCP to {where}"
        yield Finding("tcp", Health.WRONG, f"no connection to {where}: {error.strerror or error}", advice)
        return
    with line:
        yield Finding("tcp", Health.OK, f"{where} answers after {1000 * (time.monotonic() - started):.0f} ms")
        handshake = _tls(kit, line)
    yield handshake
    if handshake.health is Health.WRONG:
        return
    own = inboxes(connection.party, connection.role, kit.roster.parties())
    try:
        taken_s = probe(connection, kit.ssl_context(), own)
    except WarrenError as error:
        yield Finding.of("broker", error)
        return
    text = f"lets {connection.party} in, write and read; a message goes there and back in {1000 * taken_s:.0f} ms"
    yield Finding("broker", Health.OK, text)


def clock() -> Finding:
    """Ask the kernel whether anything keeps the clock of this machine right."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except AttributeError:  # a system without it
        state = _TIME_ERROR
    if state == _TIME_ERROR:
        advice = "run chrony or systemd-timesyncd; with clocks apart, certificates and deadlines fail"
        return Finding("clock", Health.NOTE, "the system does not say that its clock is kept right", advice)
    return Finding("clock", Health.OK, "kept right by the system")


def memory() -> Finding:
    """Look whether there is memory for training."""
    free = psutil.virtual_memory().available
    text = f"{free / _GIB:.1f} GiB free"
    if free >= _LEAST_MEMORY_BYTES:
        return Finding("memory", Health.OK, text)
    advice = (
        f"free some: importing torch and training needs {_LEAST_MEMORY_BYTES // _GIB} GiB for each worker"
    )
    return Finding("memory", Health.NOTE, text, advice)


def disk(path: Path, floor_bytes: int, *, setting: str = "") -> Finding:
    """Look whether there is space on a disk."""
    free = shutil.disk_usage(path).free
    text = f"{free / _GIB:.1f} GiB free"
    if free >= floor_bytes:
        return Finding("disk", Health.OK, text)
    text += f", less than {setting or 'needed'}, which is {floor_bytes / _GIB:.1f} GiB"
    return Finding("disk", Health.WRONG, text, f"free some space on the disk of {path}")


def _tls(kit: Kit, line: socket.socket) -> Finding:
    """Shake hands, and look at the broker's certificate."""
    try:
        with kit.ssl_context().wrap_socket(line, server_hostname=kit.connection.server_name) as secured:
            certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
            spoken = secured.version()
    except ssl.SSLCertVerificationError as error:
        advice = "somebody else answers, or the broker has the certificate of another federation: ask the federation operator"
        return Finding(
            "tls", Health.WRONG, f"the broker's certificate is not believed: {error.verify_message}", advice
        )
    except WarrenError as error:
        return Finding.of("tls", error)
    except OSError as error:
        advice = "something between here and the broker speaks no TLS, or breaks it up: ask for a plain TCP way through"
        return Finding("tls", Health.WRONG, f"no TLS: {error}", advice)
    days = (certificate.not_valid_after_utc.timestamp() - time.time()) / _DAY_S
    text = f"{spoken}, the broker's certificate is valid for {days:.0f} days"
    if days >= WARN_DAYS:
        return Finding("tls", Health.OK, text)
    return Finding(
        "tls", Health.NOTE, text, "tell the federation operator that the broker needs a new certificate"
    )


def _lines(finding: Finding) -> Iterable[str]:
    colour = _COLOURS[finding.health]
    yield f"[{colour}]{finding.health:<5}[/]  [bold]{escape(finding.subject)}[/]: {escape(finding.text)}"
    if finding.advice:
        yield f"       [dim]what to do:[/] {escape(finding.advice)}"
