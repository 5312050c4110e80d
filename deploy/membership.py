"""Let a running broker, and everybody who is connected to it, follow the roster of a federation."""

from __future__ import annotations

import logging
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final

from common.clock import Clock, SystemClock
from common.errors import BrokerUnreachableError
from common.ids import REGISTRAR, PartyId
from common.messages import RosterUpdate, encode
from common.security.kit import Kit
from common.security.roster import Roster
from common.security.sealing import Sealer
from common.transport.base import Delivery
from common.transport.topology import Lane
from deploy.endpoint import Endpoint
from deploy.federation import Federation

_LOG: Final = logging.getLogger(__name__)
_SYSTEM: Final = SystemClock()


def synchronise(federation: Federation, endpoint: Endpoint, *, before: Roster | None = None) -> None:
    """Bring a running private broker to the roster of the federation, and tell all parties.

    Adds what is missing, removes what was revoked, which closes its connections, then announces. Can be repeated, so it is
    also the way on after it failed.

    Args:
        federation: What to follow.
        endpoint: Where its broker answers.
        before: The roster before the change, so that those whose keys were replaced can read that it happened.

    Raises:
        BrokerAdminError: If the broker did not take the change.
        BrokerUnreachableError: If it took the change, but not the announcement.
    """
    endpoint.follow(federation)
    announce(federation, before=before)


def announce(federation: Federation, *, before: Roster | None = None, clock: Clock = _SYSTEM) -> None:
    """Send the roster to every party; those that are away find it when they come back.

    Whoever got new keys has the roster with them. A process that still runs with the old ones reads it under those, and leaves
    everything later to its successor.

    Raises:
        BrokerUnreachableError: If the broker did not confirm it in time.
        KitError: If the registrar's kit cannot be used.
    """
    from common.metrics import TIMEOUTS  # slow to import, and most commands of `warren` announce nothing
    from common.transport.amqp import AmqpTransport

    recipients = tuple(member.party for member in federation.members() if member.party != REGISTRAR)
    if not recipients:
        return
    kit = Kit.load(federation.kit(REGISTRAR), now=clock.now())
    signed = federation.signed_roster
    replaced = _replaced(before, federation.roster)
    groups = {replaced: before, tuple(party for party in recipients if party not in replaced): kit.roster}
    transport = AmqpTransport(kit.connection, kit.ssl_context())
    transport.start(_nobody_writes_to_the_registrar, ())
    try:
        for group, roster in groups.items():
            if group and roster is not None:
                message = RosterUpdate(
                    sender=REGISTRAR, recipients=group, document=signed.document, signature=signed.signature
                )
                sealed = Sealer(kit.identity, roster).seal(Lane.CONTROL, group, encode(message))
                transport.publish(Lane.CONTROL, group, sealed).result(kit.connection.timeouts.connect_s)
    except FutureTimeoutError as error:
        TIMEOUTS.labels(timeout="connect_s").inc()
        raise BrokerUnreachableError(
            host=kit.connection.host,
            port=kit.connection.port,
            reason=f"it did not confirm the roster within {kit.connection.timeouts.connect_s:g} s",
        ) from error
    finally:
        transport.close()
    _LOG.info(
        "roster announced",
        extra={"action": "roster_announced", "serial": federation.roster.serial, "parties": len(recipients)},
    )


def _replaced(before: Roster | None, now: Roster) -> tuple[PartyId, ...]:
    """Return the members whose keys are other ones than before."""
    known = {} if before is None else {member.party: member.sealing_key for member in before.active()}
    return tuple(
        member.party
        for member in now.active()
        if known.get(member.party, member.sealing_key) != member.sealing_key
    )


def _nobody_writes_to_the_registrar(delivery: Delivery) -> None:
    delivery.reject()
