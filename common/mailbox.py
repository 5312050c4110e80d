"""Send and receive typed messages: signed, encrypted, on the right lane, of any size.

A mailbox stands between the parts that think in messages and the transport that carries opaque bytes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common import metrics
from common.errors import (
    MalformedMessageError,
    MessageError,
    RosterError,
    SenderMismatchError,
    StorageError,
    WarrenError,
)
from common.ids import REGISTRAR, Digest, PartyId
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
from common.security.kit import Kit
from common.security.roster import Roster, SignedRoster, verify_roster
from common.security.sealing import Sealer
from common.settings import Role, Timeouts
from common.transport.base import ConnectionListener, Delivery, Transport
from common.transport.topology import Inbox, Lane, inboxes, letter_id
from common.upload import Upload

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
        self._uploads: set[Upload] = set()
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
    def listed(self) -> bool:
        """Tell whether the federation knows this party under the keys that it has here."""
        return self._sealer.listed

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
        *,
        resume: bool = False,
    ) -> Future[None]:
        """Send the chunks of a payload on the bulk lane, one publish for all recipients.

        At most `SEND_WINDOW_CHUNKS` chunks are in memory. A full queue pauses the transfer until there is room, but not for
        the other recipients; see `Upload.run`.

        Args:
            path: The payload's file; must stay unchanged until the future ends.
            manifest: Describes it.
            recipients: Who gets it.
            indices: Which chunks; all of them if not given.
            resume: Whether to remember beside the payload which chunks the broker has, and to leave those out next time.

        Returns:
            A future that ends when the broker has all of them on disk, or fails like that of `send`.
        """
        upload = Upload(
            self.send, self.party, path, manifest, recipients, closed=self._closed, timeouts=self._timeouts
        )
        self._uploads.add(upload)
        return self._senders.submit(self._upload, upload, indices, resume)

    def sends(self, sha256: Digest, party: PartyId) -> bool:
        """Tell whether a payload is on its way to a party right now, so that nothing of it need be sent beside that."""
        return any(upload.goes_to(sha256, party) for upload in self._uploads.copy())

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
            if (delivery.lane is Lane.BULK) != isinstance(message, Chunk):
                reason = f"a {message.kind} does not travel on the {delivery.lane} lane"
                raise MalformedMessageError(sender=delivery.sender, reason=reason)
            if isinstance(message, RosterUpdate):
                self._apply(message)
        except (MessageError, RosterError) as error:
            log.warning(
                "message refused",
                extra={
                    "action": "message_refused",
                    "sender": delivery.sender,
                    "error": str(error),
                    "letter": letter_id(delivery.body),
                },
            )
            metrics.REFUSED_MESSAGES.labels(reason=error.code).inc()
            delivery.reject()
            return
        except StorageError as error:
            # Neither acked nor rejected: a roster that could not be kept comes again on the next connection.
            log.warning("roster not kept", extra={"action": "roster_not_kept", "error": str(error)})
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
        if self.listed:
            self._transport.watch(self._inboxes())
        else:  # what comes now is for other keys: it waits at the broker for the process that has them
            self._transport.watch(())
            log.error(
                "other keys took the place of this party's, or it was revoked",
                extra={"action": "keys_replaced"},
            )
        log.info("roster renewed", extra={"action": "roster_renewed", "serial": self._roster.serial})
        if self._on_roster is not None:
            self._on_roster(self._roster)

    def _upload(self, upload: Upload, indices: Iterable[int] | None, resume: bool) -> None:  # noqa: FBT001 - positional for the executor
        try:
            upload.run(indices, resume=resume)
        finally:
            self._uploads.discard(upload)


def failure(future: Future[None]) -> WarrenError | None:
    """Return why a publish that has ended failed, or None."""
    error = future.exception()
    if error is None or isinstance(error, WarrenError):
        return error
    raise error
