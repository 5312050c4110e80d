"""Tell a system log, of this machine or another, each record of an audit log."""

from __future__ import annotations

import logging
import socket
from typing import Any, Final

from common.audit.record import Record, line_of
from common.errors import InvalidSettingsError

log = logging.getLogger(__name__)

TARGET: Final = r"^(/.+|udp://[^/:]+(:\d{1,5})?)$"
"""A socket of this machine such as /dev/log, or `udp://HOST:PORT`."""

_PORT: Final = 514
_HEAD: Final = b"<86>warren-audit: "
"""Facility authpriv (10), severity informational (6), as in RFC 3164."""


class Forwarder:
    """Sends records to a syslog, as they are, one datagram each.

    Never waits: a record that cannot be sent at once is logged and left out, and the numbers of the others show the gap.
    """

    def __init__(self, target: str) -> None:
        """Prepare to send; a local socket may appear later.

        Args:
            target: See `TARGET`.

        Raises:
            InvalidSettingsError: If the host is not known.
        """
        self._address: str | tuple[Any, ...] = target
        family: int = socket.AF_UNIX
        if not target.startswith("/"):
            host, _, port = target.removeprefix("udp://").partition(":")
            try:
                found = socket.getaddrinfo(host, int(port or _PORT), type=socket.SOCK_DGRAM)
            except (OSError, OverflowError) as error:
                raise InvalidSettingsError(source="syslog", problems=f"  {target}: {error}") from error
            family, _, _, _, self._address = found[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)

    def __call__(self, record: Record) -> None:
        """Send one record."""
        try:
            self._socket.sendto(_HEAD + line_of(record).rstrip(b"\n"), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            reason = error.strerror or str(error)
            facts = {"action": "syslog_failed", "record": record.number, "reason": reason}
            log.warning("audit record not forwarded", extra=facts)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
