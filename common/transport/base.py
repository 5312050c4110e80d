"""Define what a transport promises, whoever carries the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Protocol

from common.ids import PartyId
from common.limits import BULK_PREFETCH, CONTROL_PREFETCH, TELEMETRY_PREFETCH
from common.transport.topology import Inbox, Lane

PREFETCH: Final = {
    Lane.CONTROL: CONTROL_PREFETCH,
    Lane.BULK: BULK_PREFETCH,
    Lane.TELEMETRY: TELEMETRY_PREFETCH,
}
"""Messages of one queue that are handed over before one of them must be acknowledged."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it arrived.

    `sender` is proven by the broker: by the queue that it came through and by the `user_id` that the broker checked.

    Attributes:
        sender: The party that wrote it.
        lane: The lane it came on.
        body: The bytes, at most `MESSAGE_BYTES`.
        redelivered: Whether it may have been seen before.
        ack: Say that it is safe on disk (or needs no keeping); the broker forgets it. Thread-safe, never blocks, and
            harmless after the connection was lost: the broker then delivers again.
        reject: Set it aside in the dead-letter queue. Thread-safe, never blocks.
    """

    sender: PartyId
    lane: Lane
    body: bytes = field(repr=False)
    redelivered: bool
    ack: Callable[[], None] = field(repr=False)
    reject: Callable[[], None] = field(repr=False)


Receiver = Callable[[Delivery], None]
"""Called on the transport's own thread: it must hand over and return at once, and must not raise."""

ConnectionListener = Callable[[bool, str], None]
"""Called on the transport's own thread with (connected, detail) at each change."""


class Transport(Protocol):
    """Carries opaque bodies between the parties of one federation.

    Delivery is at least once and in order for each (sender, recipient, lane). All methods are thread-safe. A transport
    connects by itself, forever; nothing needs to be open for `publish` to be called.
    """

    @property
    def party(self) -> PartyId:
        """Return the party that this transport speaks for."""
        ...

    def publish(self, lane: Lane, recipients: Sequence[PartyId], body: bytes) -> Future[None]:
        """Send one body to all recipients, stored once by the broker.

        The future ends when the broker has it on disk for every recipient. On the telemetry lane it ends at once and
        nothing is promised. While there is no connection the body waits and is sent after reconnecting, so a recipient may
        see it twice. The future fails with UnroutableError (no recipient has a queue), QueueFullError (the broker
        refused it), MessageTooLargeError or TransportClosedError.
        """
        ...

    def start(
        self, receiver: Receiver, inboxes: Iterable[Inbox], listener: ConnectionListener | None = None
    ) -> None:
        """Connect in the background and hand over everything that arrives in these queues, also after reconnecting."""
        ...

    def watch(self, inboxes: Iterable[Inbox]) -> None:
        """Replace the set of queues that are read, at once if connected."""
        ...

    def close(self) -> None:
        """Stop, leaving what was not acknowledged to the broker. Waiting publishes fail. Idempotent; joins its threads."""
        ...
