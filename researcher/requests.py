"""Match the answers to short requests with those who wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future

from common.errors import WarrenError
from common.ids import MessageId, PartyId
from common.mailbox import failure
from common.messages import Reply


class Pending:
    """The answers to one request; several threads may add to it while one waits."""

    def __init__(self, request_id: MessageId, nodes: Iterable[PartyId]) -> None:
        self.request_id = request_id
        self._expected = set(nodes)
        self._replies: dict[PartyId, Reply] = {}
        self._error: WarrenError | None = None
        self._changed = threading.Condition()

    def add(self, reply: Reply) -> None:
        """Take an answer; the first of each node counts, and only of those that were asked."""
        with self._changed:
            if reply.sender in self._expected:
                self._expected.discard(reply.sender)
                self._replies[reply.sender] = reply
                self._changed.notify_all()

    def give_up_on(self, node: PartyId) -> None:
        """Wait no longer for a node."""
        with self._changed:
            self._expected.discard(node)
            self._changed.notify_all()

    def sent(self, future: Future[None]) -> None:
        """Take note of what came of sending the request."""
        error = failure(future)
        if error is not None:
            self.fail(error)

    def fail(self, error: WarrenError) -> None:
        """End the wait with an error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> dict[PartyId, Reply]:
        """Wait for all answers, no longer than `timeout_s`; return those that came, in node order.

        Raises:
            WarrenError: What `fail` was given.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not self._expected, timeout_s)
            if self._error is not None:
                raise self._error
            return dict(sorted(self._replies.items()))

    @property
    def silent(self) -> set[PartyId]:
        """Return the nodes that were waited for and did not answer."""
        with self._changed:
            return set(self._expected)
