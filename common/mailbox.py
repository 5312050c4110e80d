"""Send and receive typed messages: signed, encrypted, on the right lane, of any size.

A mailbox stands between the parts that think in messages and the transport that carries opaque bytes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from common import metrics
from common.errors import (
    MessageError,
    PayloadMissingError,
    QueueFullError,
    RosterError,
    SenderMismatchError,
    TransportClosedError,
    WarrenError,
)
from common.ids import REGISTRAR, PartyId
from common.limits import SEND_WINDOW_CHUNKS
from common.messages import (
    AnyMessage,
    Chunk,
    NodePresence,
    PayloadManifest,
    RosterUpdate,
    TaskProgress,
    decode,
    encode,
)
from common.payload.store import chunk_length
from common.security.kit import Kit
from common.security.roster import Roster, SignedRoster, verify_roster
from common.security.sealing import Sealer
from common.settings import Role, Timeouts
from common.transport.base import ConnectionListener, Delivery, Transport
from common.transport.topology import Inbox, Lane, inboxes

log = logging.getLogger(__name__)

_LANES: Final[dict[type, Lane]] = {
    Chunk: Lane.BULK,
    NodePresence: Lane.TELEMETRY,
    TaskProgress: Lane.TELEMETRY,
}


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that was read and believed, with what rode behind it.

    `ack` and `reject` are those of the delivery: thread-safe, and they never block.
    """

    message: AnyMessage
    payload: memoryview = field(repr=False)
    redelivered: bool
    ack: Callable[[], None] = field(repr=False)
    reject: Callable[[], None] = field(repr=False)


class Mailbox:
    """The one way for a party to talk to others.

    What cannot be read, or does not come from whom it claims, goes to the dead-letter queue with a warning and a metric and
    never reaches the receiver. New rosters are believed, applied and kept before the receiver hears of anything later.
    All methods are thread-safe.
    """

    def __init__(
        self,
        transport: Transport,
        sealer: Sealer,
        roster: Roster,
        role: Role,
        *,
        renew: Callable[[RosterUpdate, Roster], Roster] | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """Wire a mailbox; nothing is sent or received before `start`.

        Args:
            transport: Carries the bytes.
            sealer: Signs and encrypts for this party.
            roster: Who is in the federation now.
            role: The role of this party.
            renew: Verifies and keeps the roster of an update that replaces the one in use, or raises RosterError; without it,
                updates are refused.
            timeouts: Pauses before a full queue is tried again.
        """
        self._transport = transport
        self._sealer = sealer
        self._roster = roster
        self._role = role
        self._renew = renew
        self._timeouts = timeouts or Timeouts()
        self._receive: Callable[[Mail], None] | None = None
        self._on_roster: Callable[[Roster], None] | None = None
        self._closed = threading.Event()
        self._senders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="bulk")

    @classmethod
    def of_kit(cls, kit: Kit, transport: Transport) -> Mailbox:
        """Return the mailbox of the party that a kit belongs to; new rosters are kept in the kit."""

        def renew(update: RosterUpdate, previous: Roster) -> Roster:
            signed = SignedRoster(document=update.document, signature=update.signature)
            roster = verify_roster(signed.document, signed.signature, kit.authority, previous=previous)
            kit.store_roster(signed)
            return roster

        sealer = Sealer(kit.identity, kit.roster)
        connection = kit.connection
        return cls(transport, sealer, kit.roster, connection.role, renew=renew, timeouts=connection.timeouts)

    @property
    def party(self) -> PartyId:
        """Return the party that this mailbox belongs to."""
        return self._transport.party

    @property
    def roster(self) -> Roster:
        """Return who is in the federation now."""
        return self._roster

    def start(
        self,
        receive: Callable[[Mail], None],
        *,
        on_connection: ConnectionListener | None = None,
        on_roster: Callable[[Roster], None] | None = None,
    ) -> None:
        """Connect in the background and hand over every message.

        Args:
            receive: Called on the transport's thread; must hand over and return.
            on_connection: Called on the transport's thread with (connected, detail) at each change.
            on_roster: Called on the transport's thread after a new roster was applied.
        """
        self._receive = receive
        self._on_roster = on_roster
        self._transport.start(self._deliver, self._inboxes(), on_connection)

    def send(self, message: AnyMessage, payload: bytes | memoryview = b"") -> Future[None]:
        """Send a message to its recipients, on the lane of its kind.

        Returns:
            A future that ends when the broker has it on disk for every recipient; at once for telemetry.

        Raises:
            MessageTooLargeError: If it is larger than the wire allows.
        """
        lane = _LANES.get(type(message), Lane.CONTROL)
        sealed = self._sealer.seal(lane, message.recipients, encode(message, payload))
        return self._transport.publish(lane, message.recipients, sealed)

    def send_payload(
        self,
        path: Path,
        manifest: PayloadManifest,
        recipients: Sequence[PartyId],
        indices: Iterable[int] | None = None,
    ) -> Future[None]:
        """Send the chunks of a payload on the bulk lane, one publish for all recipients.

        At most `SEND_WINDOW_CHUNKS` chunks are in memory. A full queue pauses the transfer until there is room.

        Args:
            path: The payload's file; must stay unchanged until the future ends.
            manifest: Describes it.
            recipients: Who gets it.
            indices: Which chunks; all of them if not given.

        Returns:
            A future that ends when the broker has all of them on disk, or fails like that of `send`.
        """
        wanted = range(manifest.chunks) if indices is None else indices
        return self._senders.submit(self._send_chunks, path, manifest, tuple(recipients), wanted)

    def close(self) -> None:
        """Stop sending and receiving; idempotent."""
        self._closed.set()
        self._transport.close()
        self._senders.shutdown(cancel_futures=True)

    def _inboxes(self) -> tuple[Inbox, ...]:
        return tuple(inboxes(self.party, self._role, self._roster.parties()))

    def _deliver(self, delivery: Delivery) -> None:
        try:
            body = self._sealer.open(delivery.lane, delivery.sender, delivery.body)
            message, payload = decode(body, sender=delivery.sender)
            if message.sender != delivery.sender:
                raise SenderMismatchError(claimed=message.sender, actual=delivery.sender)
            if isinstance(message, RosterUpdate):
                self._apply(message)
        except (MessageError, RosterError) as error:
            log.warning(
                "message refused",
                extra={"action": "message_refused", "sender": delivery.sender, "error": str(error)},
            )
            metrics.REFUSED_MESSAGES.labels(reason=error.code).inc()
            delivery.reject()
            return
        if isinstance(message, RosterUpdate):
            delivery.ack()
        elif self._receive is not None:
            self._receive(Mail(message, payload, delivery.redelivered, delivery.ack, delivery.reject))

    def _apply(self, update: RosterUpdate) -> None:
        if update.sender != REGISTRAR or self._renew is None:
            raise RosterError(reason=f"{update.sender} may not distribute it here")
        self._roster = self._renew(update, self._roster)
        self._sealer.update(self._roster)
        self._transport.watch(self._inboxes())
        log.info("roster renewed", extra={"action": "roster_renewed", "serial": self._roster.serial})
        if self._on_roster is not None:
            self._on_roster(self._roster)

    def _send_chunks(
        self, path: Path, manifest: PayloadManifest, recipients: tuple[PartyId, ...], indices: Iterable[int]
    ) -> None:
        window = threading.Semaphore(SEND_WINDOW_CHUNKS)
        pending: list[tuple[int, Future[None]]] = []
        with _opened(path, manifest) as file:

            def publish(index: int) -> None:
                window.acquire()
                data = os.pread(file.fileno(), chunk_length(manifest, index), index * manifest.chunk_bytes)
                chunk = Chunk(sender=self.party, recipients=recipients, manifest=manifest, index=index)
                future = self.send(chunk, data)
                future.add_done_callback(lambda _: window.release())
                pending.append((index, future))

            for index in indices:
                publish(index)
                if len(pending) >= 2 * SEND_WINDOW_CHUNKS:
                    self._settle(pending, SEND_WINDOW_CHUNKS, publish)
            self._settle(pending, 0, publish)

    def _settle(
        self, pending: list[tuple[int, Future[None]]], keep: int, publish: Callable[[int], None]
    ) -> None:
        """Wait for the oldest publishes until `keep` are left; those refused by a full queue are published again."""
        pause_s = self._timeouts.reconnect_first_s
        while len(pending) > keep:
            index, future = pending.pop(0)
            try:
                future.result()
            except QueueFullError:
                if self._closed.wait(pause_s):
                    raise TransportClosedError(action="send a payload", party=self.party) from None
                pause_s = min(2 * pause_s, self._timeouts.reconnect_max_s)
                publish(index)


def _opened(path: Path, manifest: PayloadManifest) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:  # it was asked for, and forgotten meanwhile
        raise PayloadMissingError(digest=manifest.sha256, path=path.parent) from error


def failure(future: Future[None]) -> WarrenError | None:
    """Return why a publish that has ended failed, or None."""
    error = future.exception()
    if error is None or isinstance(error, WarrenError):
        return error
    raise error
