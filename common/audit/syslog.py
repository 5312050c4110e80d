"""Tell another machine, or this one's system log, each record of an audit log."""

from __future__ import annotations

import logging
import socket
from logging.handlers import SYSLOG_UDP_PORT, SysLogHandler
from typing import Final

from common.audit.record import Record, line_of
from common.errors import InvalidSettingsError

log = logging.getLogger(__name__)

TARGET: Final = r"^(/.+|(udp|tcp)://[^/:]+(:\d{1,5})?)$"
"""A socket of this machine such as /dev/log, or `udp://HOST:PORT`, `tcp://HOST:PORT`."""


class Forwarder:
    """Sends records to a syslog, as they are, with the facility `authpriv`.

    A record that cannot be sent is logged and left out: the numbers of the records show the gap. Nothing waits for an answer.
    """

    def __init__(self, target: str) -> None:
        """Connect.

        Args:
            target: See `TARGET`.

        Raises:
            InvalidSettingsError: If there is no such socket or host.
        """
        try:
            self._handler = _Handler(*_address(target))
        except OSError as error:
            raise InvalidSettingsError(
                source="syslog", problems=f"  {target}: {error.strerror or error}"
            ) from error
        self._handler.ident = "warren-audit: "

    def __call__(self, record: Record) -> None:
        """Send one record."""
        text = line_of(record).decode("ascii").rstrip("\n")
        self._handler.handle(
            logging.makeLogRecord({"msg": text, "levelno": logging.INFO, "levelname": "INFO"})
        )

    def close(self) -> None:
        """Close the socket."""
        self._handler.close()


class _Handler(SysLogHandler):
    def __init__(self, address: str | tuple[str, int], kind: socket.SocketKind | None) -> None:
        super().__init__(address=address, facility=SysLogHandler.LOG_AUTHPRIV, socktype=kind)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the name of the library
        log.warning("audit record not forwarded", extra={"action": "syslog_failed"}, exc_info=True)


def _address(target: str) -> tuple[str | tuple[str, int], socket.SocketKind | None]:
    if target.startswith("/"):
        return target, None
    scheme, _, place = target.partition("://")
    host, _, port = place.partition(":")
    kind = socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM
    return (host, int(port or SYSLOG_UDP_PORT)), kind
