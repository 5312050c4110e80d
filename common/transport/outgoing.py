"""Hold one publish until it is known how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from common.errors import MessageTooLargeError, WarrenError
from common.ids import PartyId
from common.limits import MESSAGE_BYTES
from common.transport.topology import Lane


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One body on its way to its recipients.

    Attributes:
        lane: The lane it goes on.
        recipients: Whom it goes to, each once.
        body: The bytes.
        future: Ends when the broker has stored or refused it; cannot be cancelled.
    """

    lane: Lane
    recipients: tuple[PartyId, ...]
    body: bytes = field(repr=False)
    future: Future[None] = field(repr=False)

    @classmethod
    def of(cls, lane: Lane, recipients: Sequence[PartyId], body: bytes) -> Outgoing:
        """Return a publish; its future has ended already if it is too large or goes to nobody."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        if len(body) > MESSAGE_BYTES:
            future.set_exception(MessageTooLargeError(size_bytes=len(body), limit_bytes=MESSAGE_BYTES))
        elif not recipients:
            future.set_result(None)
        return cls(lane, tuple(dict.fromkeys(recipients)), body, future)

    @property
    def ended(self) -> bool:
        """Return whether the future has ended."""
        return self.future.done()

    def succeed(self) -> None:
        """End well, if it has not ended."""
        if not self.future.done():
            self.future.set_result(None)

    def fail(self, error: WarrenError) -> None:
        """End with an error, if it has not ended."""
        if not self.future.done():
            self.future.set_exception(error)
