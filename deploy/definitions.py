"""Turn a roster into what RabbitMQ must hold: users, permissions, exchanges, queues, bindings, policies and limits.

Everything here is pure. The result is a definitions document as RabbitMQ 3.10 to 4.x import it, at boot, over its HTTP
API or with `rabbitmqctl import_definitions`. Imports only add and change, so `obsolete` says what must go.

Users have no password and can therefore only come with their certificate (EXTERNAL). They may configure nothing, write to
their own exchange and read their own queues; the registrar may also read dead letters and put them back. Queue arguments name the type alone: all else is policy, because RabbitMQ
3.x and 4.x do not accept the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from common.ids import PartyId
from common.security.roster import Roster
from common.settings import Role
from common.transport.topology import DEAD, Inbox, Lane, exchange, inboxes, routing_key
from deploy.federation import QueueLimits

Definitions = dict[str, Any]
Parties = Sequence[tuple[PartyId, Role]]

OPERATOR: Final = "_operator"
"""User of the HTTP API; no party id starts like this, and AMQP offers no way to log in with a password."""

CONNECTIONS: Final[dict[Role, int]] = {"node": 8, "researcher": 40, "registrar": 4}
"""Connections that one party may hold: a transport has two, and those that a broken network left behind stay for about
a minute. A researcher may run several programs at once."""

CHANNELS_PER_CONNECTION: Final = 8
"""A transport opens at most one for each lane, and one to publish."""

TELEMETRY_TTL_MS: Final = 60_000
"""Progress that nobody read for a minute is of no use."""

BULK_TTL_MS: Final = 7 * 86_400_000
"""A transfer that nobody fetched for a week is abandoned; its sender can send it again."""

DEAD_MESSAGES: Final = 1000
DEAD_BYTES: Final = 64 * 2**20
DEAD_TTL_MS: Final = 30 * 86_400_000
"""Evidence is kept for a month, the newest first."""

MAX_QUEUES: Final = 50_000
MAX_CONNECTIONS: Final = 5_000
"""Parties can make no queues and have their own limits; these two stop an operator's mistake."""

_HASHING: Final = "rabbit_password_hashing_sha256"


def full(
    roster: Roster, vhost: str, limits: QueueLimits, *, lazy: bool, replicated: bool = False
) -> Definitions:
    """Return everything that a federation needs on its broker.

    Args:
        roster: Who is in it; revoked parties get nothing.
        vhost: Its virtual host.
        limits: How large queues may grow.
        lazy: Whether the broker is a RabbitMQ 3.x, whose bulk queues must be told to live on disk.
        replicated: Whether control and bulk queues are quorum queues, for a cluster; telemetry may be lost with its server.
    """
    parties = roster.parties()
    boxes = tuple(_boxes(parties))
    return {
        "users": [_user(party, role) for party, role in parties],
        "vhosts": [{"name": vhost}],
        "permissions": [_permission(vhost, party, role) for party, role in parties],
        "topic_permissions": [],
        "parameters": [
            {
                "vhost": vhost,
                "component": "vhost-limits",
                "name": "limits",
                "value": {"max-queues": MAX_QUEUES, "max-connections": MAX_CONNECTIONS},
            }
        ],
        "policies": list(_policies(vhost, limits, lazy=lazy)),
        "exchanges": [
            *(_exchange(vhost, exchange(party), "direct") for party, _ in parties),
            _exchange(vhost, DEAD, "fanout"),
        ],
        "queues": [
            *(
                _queue(vhost, box.queue, quorum=replicated and box.lane is not Lane.TELEMETRY)
                for box in boxes
            ),
            _queue(vhost, DEAD),
        ],
        "bindings": [
            *(
                _binding(vhost, exchange(box.sender), box.queue, routing_key(box.recipient, box.lane))
                for box in boxes
            ),
            _binding(vhost, DEAD, DEAD, ""),
        ],
    }


def with_operator(definitions: Definitions, password: str) -> Definitions:
    """Return the definitions with a user for the HTTP API added, which may remove queues, and read the dead letters only."""
    operator = {
        "name": OPERATOR,
        "password_hash": _password_hash(password),
        "hashing_algorithm": _HASHING,
        "tags": ["administrator"],
    }
    permissions = [
        {"user": OPERATOR, "vhost": vhost["name"], "configure": ".*", "write": "^$", "read": f"^{DEAD}$"}
        for vhost in definitions["vhosts"]
    ]
    return definitions | {
        "users": [*definitions["users"], operator],
        "permissions": [*definitions["permissions"], *permissions],
    }


@dataclass(frozen=True, slots=True)
class Names:
    """Names of users, exchanges and queues in one virtual host."""

    users: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()


def obsolete(roster: Roster, found: Names) -> Names:
    """Return what a broker still holds of parties that were revoked.

    Args:
        roster: Who is in the federation, and who was.
        found: What its virtual host holds, and who may use it.
    """
    boxes = {box.queue for box in _boxes(roster.parties())}
    exchanges = {exchange(party) for party, _ in roster.parties()}
    revoked = {member.party for member in roster.members if member.revoked_at is not None}
    return Names(
        users=tuple(name for name in found.users if name in revoked),
        exchanges=tuple(
            name for name in found.exchanges if name.startswith("out.") and name not in exchanges
        ),
        queues=tuple(name for name in found.queues if name.startswith("inbox.") and name not in boxes),
    )


def _boxes(parties: Parties) -> Iterator[Inbox]:
    for party, role in parties:
        yield from inboxes(party, role, parties)


def _user(party: PartyId, role: Role) -> Definitions:
    connections = CONNECTIONS[role]
    return {
        "name": party,
        "password_hash": "",
        "hashing_algorithm": _HASHING,
        # A letter that goes back to its queue must be, for its recipient, from whom it was before.
        "tags": ["impersonator"] if role == "registrar" else [],
        "limits": {
            "max-connections": connections,
            "max-channels": connections * CHANNELS_PER_CONNECTION,
        },
    }


def _permission(vhost: str, party: PartyId, role: Role) -> Definitions:
    """Return what a party may do; the registrar, who speaks for the operator, may also put dead letters back."""
    write, read = re.escape(exchange(party)), rf"inbox\.{re.escape(party)}\.[^.]+\.({'|'.join(Lane)})"
    if role == "registrar":
        write, read = rf"({write}|amq\.default)", f"({read}|{DEAD})"
    return {"user": party, "vhost": vhost, "configure": "^$", "write": f"^{write}$", "read": f"^{read}$"}


def _policies(vhost: str, limits: QueueLimits, *, lazy: bool) -> Iterator[Definitions]:
    def policy(name: str, pattern: str, **definition: object) -> Definitions:
        return {
            "vhost": vhost,
            "name": name,
            "pattern": pattern,
            "apply-to": "queues",
            "priority": 1,
            "definition": {key.replace("_", "-"): value for key, value in definition.items()},
        }

    def lane(which: Lane) -> str:
        return rf"^inbox\.[^.]+\.[^.]+\.{which}$"

    yield policy(
        "control",
        lane(Lane.CONTROL),
        max_length_bytes=limits.control_bytes,
        overflow="reject-publish",
        dead_letter_exchange=DEAD,
    )
    # Without lazy mode RabbitMQ 3.x keeps what waits in memory: 400 MiB for offline nodes stall a broker of 512 MB.
    on_disk = {"queue_mode": "lazy"} if lazy else {}
    yield policy(
        "bulk",
        lane(Lane.BULK),
        max_length_bytes=limits.bulk_bytes,
        overflow="reject-publish",
        message_ttl=BULK_TTL_MS,
        **on_disk,
    )
    yield policy(
        "telemetry",
        lane(Lane.TELEMETRY),
        max_length=limits.telemetry_messages,
        overflow="drop-head",
        message_ttl=TELEMETRY_TTL_MS,
    )
    yield policy(
        "dead",
        f"^{DEAD}$",
        max_length=DEAD_MESSAGES,
        max_length_bytes=DEAD_BYTES,
        overflow="drop-head",
        message_ttl=DEAD_TTL_MS,
    )


def _exchange(vhost: str, name: str, kind: str) -> Definitions:
    return {
        "name": name,
        "vhost": vhost,
        "type": kind,
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }


def _queue(vhost: str, name: str, *, quorum: bool = False) -> Definitions:
    return {
        "name": name,
        "vhost": vhost,
        "durable": True,
        "auto_delete": False,
        "arguments": {"x-queue-type": "quorum" if quorum else "classic"},
    }


def _binding(vhost: str, source: str, queue: str, key: str) -> Definitions:
    return {
        "source": source,
        "vhost": vhost,
        "destination": queue,
        "destination_type": "queue",
        "routing_key": key,
        "arguments": {},
    }


def _password_hash(password: str) -> str:
    """Return RabbitMQ's form: base64 of a salt of 4 bytes and SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def names_in(definitions: Definitions) -> Names:
    """Return the names that definitions mention."""

    def names(kind: Iterable[dict[str, Any]]) -> tuple[str, ...]:
        return tuple(entry["name"] for entry in kind)

    return Names(
        users=names(definitions["users"]),
        exchanges=names(definitions["exchanges"]),
        queues=names(definitions["queues"]),
    )
