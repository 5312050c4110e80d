"""Find out whether whoever operates a federation has all that is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from common import doctor as checks
from common.doctor import Finding, Health
from common.errors import BrokerMissingError, WarrenError
from common.ids import REGISTRAR
from common.security.expiry import WARN_DAYS
from common.security.kit import Kit
from deploy.broker import find_server
from deploy.federation import Federation

_FLOOR_BYTES: Final = 1024**3
_DAY_S: Final = 86400.0


def examine(federation: Federation) -> tuple[Finding, ...]:
    """Look at everything that an operator needs; takes some seconds, and changes nothing."""
    return (
        checks.versions(),
        _server(),
        *_members(federation),
        *_broker(federation),
        checks.clock(),
        checks.disk(federation.path, _FLOOR_BYTES),
    )


def _server() -> Finding:
    try:
        return Finding("rabbitmq", Health.OK, f"{find_server()} is installed")
    except BrokerMissingError as error:
        return Finding(
            "rabbitmq", Health.NOTE, str(error), "needed only for `warren broker start` on this machine"
        )


def _members(federation: Federation) -> Iterator[Finding]:
    """Say of each member whose kit is here, and of the authority, when its certificate ends."""
    authority = (federation.authority.certificate.not_valid_after_utc.timestamp() - time.time()) / _DAY_S
    health = Health.OK if authority >= WARN_DAYS else Health.WRONG
    advice = (
        "" if health is Health.OK else "make a new federation before that day: all certificates end with it"
    )
    yield Finding("authority", health, f"valid for {authority:.0f} days", advice)
    for member in federation.members():
        if not (federation.kit(member.party) / "cert.pem").exists():
            continue  # it made its own keys
        try:
            kit = Kit.load(federation.kit(member.party), now=time.time())
        except WarrenError as error:
            yield Finding.of(f"kit of {member.party}", error)
            continue
        days = kit.days_left(time.time())
        late = days < WARN_DAYS
        renewal = f"warren federation renew {federation.path} {member.party}" if late else ""
        health = Health.NOTE if late else Health.OK
        yield Finding(f"kit of {member.party}", health, f"valid for {days:.0f} days", renewal)


def _broker(federation: Federation) -> Iterator[Finding]:
    try:
        kit = Kit.load(federation.kit(REGISTRAR), now=time.time())
    except WarrenError as error:
        yield Finding.of("registrar", error)
        return
    yield from checks.way_to_broker(kit)
