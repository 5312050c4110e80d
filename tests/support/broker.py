"""Federations on one real RabbitMQ: one broker for the whole test session, one virtual host for each federation."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pika
import pika.exceptions

from common.ids import PartyId
from common.security.kit import Kit
from common.settings import Role, Timeouts
from common.transport.amqp import AmqpTransport
from common.transport.topology import DEAD, Inbox, inboxes
from deploy.admin import Admin
from deploy.broker import SERVER
from deploy.definitions import full, with_operator
from deploy.endpoint import Endpoint
from deploy.federation import Federation, QueueLimits
from deploy.membership import synchronise
from tests.support.proxy import Proxy

RESEARCHERS = ("alice", "bob")
NODES = ("north", "south", "east", "west")

FAST = Timeouts(reconnect_first_s=0.1, reconnect_max_s=0.5)
"""For tests that break connections."""


@dataclass(frozen=True)
class RunningFederation:
    """A federation whose broker runs. Everything in it is real: kits, certificates, permissions, queues."""

    federation: Federation
    endpoint: Endpoint

    @classmethod
    def make(
        cls,
        path: Path,
        name: str,
        beside: RunningFederation,
        *,
        researchers: tuple[str, ...] = RESEARCHERS,
        nodes: tuple[str, ...] = NODES,
        limits: QueueLimits | None = None,
    ) -> RunningFederation:
        """Make another federation on the same broker, with a virtual host of its own, in some 0.2 s."""
        federation = Federation.create(
            path,
            name,
            host=beside.federation.settings.host,
            port=beside.endpoint.port,
            limits=limits,
            authority=beside.federation.authority,
        )
        populate(federation, researchers, nodes)
        running = cls(federation, beside.endpoint)
        definitions = full(
            federation.roster, running.vhost, federation.settings.limits, lazy=beside.endpoint.lazy
        )
        running.admin.import_definitions(with_operator(definitions, beside.endpoint.password))
        return running

    @property
    def vhost(self) -> str:
        return self.federation.settings.vhost

    @property
    def admin(self) -> Admin:
        return self.endpoint.admin(self.vhost)

    def kit_path(self, party: str) -> Path:
        return self.federation.kit(PartyId(party))

    def kit(self, party: str, **connection: Any) -> Kit:
        """Return a party's kit; keywords such as `port` or `timeouts` replace settings of its connection."""
        kit = Kit.load(self.kit_path(party), now=time.time())
        return replace(kit, connection=kit.connection.model_copy(update=connection))

    def transport(self, party: str, **connection: Any) -> AmqpTransport:
        """Return a transport that speaks for a party and was not started; the caller closes it."""
        kit = self.kit(party, **connection)
        return AmqpTransport(kit.connection, kit.ssl_context())

    def inboxes(self, party: str) -> tuple[Inbox, ...]:
        """Return every queue that a party reads."""
        roster = self.federation.roster
        return tuple(inboxes(PartyId(party), roster.member(PartyId(party)).role, roster.parties()))

    def add(self, party: str, role: Role) -> None:
        """Add a party, on the broker too, and announce it."""
        self.federation.add(party, role)
        synchronise(self.federation, self.endpoint)

    def revoke(self, party: str) -> None:
        """Revoke a party, on the broker too, and announce it."""
        self.federation.revoke(party)
        synchronise(self.federation, self.endpoint)

    def connect(
        self,
        party: str,
        *,
        context: ssl.SSLContext | None = None,
        credentials: pika.credentials.PlainCredentials | None = None,
        vhost: str | None = None,
    ) -> pika.BlockingConnection:
        """Open a bare AMQP connection, as a party that plays by no rules would; the caller closes it."""
        kit = self.kit(party)
        context = context or kit.ssl_context()
        lines, wrap = [], context.wrap_socket

        def remember(*args: Any, **options: Any) -> ssl.SSLSocket:
            lines.append(wrap(*args, **options))
            return lines[-1]

        context.wrap_socket = remember  # type: ignore[method-assign]
        parameters = pika.ConnectionParameters(
            host=kit.connection.host,
            port=kit.connection.port,
            virtual_host=vhost or self.vhost,
            credentials=credentials or pika.credentials.ExternalCredentials(),
            ssl_options=pika.SSLOptions(context, kit.connection.server_name),
            connection_attempts=1,
            blocked_connection_timeout=30,
            socket_timeout=10,
            stack_timeout=15,
        )
        try:
            return pika.BlockingConnection(parameters)
        except BaseException:
            for line in lines:
                line.close()  # pika forgets to
            raise

    def depth(self, queue: str | Inbox) -> int:
        """Return how many messages wait in a queue now, unacknowledged ones not counted."""
        return self.depths()[queue.queue if isinstance(queue, Inbox) else queue]

    def depths(self) -> dict[str, int]:
        """Return of every queue how many messages wait in it now, unacknowledged ones not counted.

        No connection is opened: a party may have four, and the broker counts a closed one for some time.
        """
        totals = "disable_stats=true&enable_queue_totals=true"  # from the queues themselves, not sampled
        found = self.admin._call("GET", "queues", self.vhost, query=totals)
        return {queue["name"]: queue["messages_ready"] for queue in found}

    def dead(self) -> list[bytes]:
        """Return the bodies of the dead letters, the oldest first, and leave them there."""
        document = {"count": 10_000, "ackmode": "ack_requeue_true", "encoding": "base64"}
        found = self.admin._call("POST", "queues", self.vhost, DEAD, "get", body=document)
        return [base64.b64decode(entry["payload"]) for entry in found]


def ctl(endpoint: Endpoint, *arguments: str) -> None:
    """Run rabbitmqctl on the broker, in its own environment."""
    environ = Path(f"/proc/{endpoint.pid}/environ").read_bytes().decode()
    environment = dict(entry.split("=", 1) for entry in environ.split("\0") if "=" in entry)
    environment = {key: environment[key] for key in ("PATH", "HOME", "LANG", "ERL_EPMD_PORT")}
    environment |= {"RABBITMQ_NODENAME": "warren@localhost", "RABBITMQ_CONF_ENV_FILE": os.devnull}
    subprocess.run(
        [SERVER.parent / "rabbitmqctl", *arguments], env=environment, check=True, capture_output=True
    )


def populate(
    federation: Federation, researchers: tuple[str, ...] = RESEARCHERS, nodes: tuple[str, ...] = NODES
) -> None:
    """Add researchers and nodes to a federation."""
    for party in researchers:
        federation.add(party, "researcher")
    for party in nodes:
        federation.add(party, "node")


class AmqpWorld:
    """A federation over RabbitMQ in which the line of each party can be cut; see `tests/contracts`."""

    def __init__(self, running: RunningFederation) -> None:
        self._running = running
        self._lines: dict[str, Proxy] = {}
        self.add = running.add
        self.remove = running.revoke
        self.dead = running.dead

    def transport(self, party: PartyId) -> AmqpTransport:
        return self._running.transport(party, port=self._line(party).port, timeouts=FAST)

    def disconnect(self, party: PartyId) -> None:
        self._line(party).refuse()

    def reconnect(self, party: PartyId) -> None:
        self._line(party).accept()

    def close(self) -> None:
        for line in self._lines.values():
            line.close()

    def _line(self, party: str) -> Proxy:
        if party not in self._lines:
            self._lines[party] = Proxy(self._running.endpoint.port)
        return self._lines[party]
