"""Name the exchanges and queues of a federation, and say who may talk to whom.

Each party P owns one direct exchange `out.P` that only P may write to. Each pair that may talk has, for each lane, one
queue `inbox.<to>.<from>.<lane>` bound to `out.<from>` with the routing key `<to>.<lane>`. So the queue itself tells who
can have written to it. Provisioning declares all of it; clients declare nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from common.ids import PartyId
from common.settings import Role

DEAD: Final = "dead"
"""Exchange and queue of what could not be read or believed."""


def letter_id(body: bytes | memoryview) -> str:
    """Return the id under which a message that was refused is found among the dead letters: 48 bits of its SHA-256."""
    return hashlib.sha256(body).hexdigest()[:12]


class Lane(StrEnum):
    """A class of traffic with its own queues, limits and delivery promise."""

    CONTROL = "control"
    """Requests and replies; persistent, confirmed."""
    BULK = "bulk"
    """Payload chunks; persistent, confirmed, bounded."""
    TELEMETRY = "telemetry"
    """Presence, progress and losses; transient, unconfirmed, oldest dropped first."""


class Inbox(NamedTuple):
    """One queue: what `sender` sends to `recipient` on one lane."""

    recipient: PartyId
    sender: PartyId
    lane: Lane

    @property
    def queue(self) -> str:
        """Return the name of the queue."""
        return f"inbox.{self.recipient}.{self.sender}.{self.lane}"


def exchange(party: PartyId) -> str:
    """Return the exchange that only `party` may write to."""
    return f"out.{party}"


def routing_key(recipient: PartyId, lane: Lane) -> str:
    """Return the key under which the sender's exchange routes to the recipient's queue."""
    return f"{recipient}.{lane}"


_MAY_SEND: Final[dict[tuple[Role, Role], tuple[Lane, ...]]] = {
    ("researcher", "node"): (Lane.CONTROL, Lane.BULK),
    ("node", "researcher"): (Lane.CONTROL, Lane.BULK, Lane.TELEMETRY),
    ("registrar", "node"): (Lane.CONTROL,),
    ("registrar", "researcher"): (Lane.CONTROL,),
}


def lanes(sender: Role, recipient: Role) -> tuple[Lane, ...]:
    """Return the lanes on which a party of one role may send to a party of another."""
    return _MAY_SEND.get((sender, recipient), ())


def inboxes(party: PartyId, role: Role, parties: Iterable[tuple[PartyId, Role]]) -> Iterator[Inbox]:
    """Yield every queue that `party` reads, given all parties of the federation."""
    for sender, sender_role in parties:
        if sender != party:
            for lane in lanes(sender_role, role):
                yield Inbox(party, sender, lane)


def inbox_named(queue: str) -> Inbox:
    """Return the inbox that a queue is.

    Raises:
        ValueError: If no inbox has this name.
    """
    kind, *names = queue.split(".")
    if kind != "inbox" or len(names) != len(Inbox._fields):
        raise ValueError(f"{queue} is no inbox")
    recipient, sender, lane = names
    return Inbox(PartyId(recipient), PartyId(sender), Lane(lane))
