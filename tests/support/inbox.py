"""Collect what a transport delivers, and wait for it with a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from common.transport.base import Delivery

DEADLINE_S = 30.0


class Collector:
    """A receiver and a listener that remember; acknowledges at once unless told not to."""

    def __init__(self, *, ack: bool = True) -> None:
        self.deliveries: list[Delivery] = []
        self.changes: list[tuple[bool, str]] = []
        self.threads: set[str] = set()
        self._ack = ack
        self._changed = threading.Condition()

    def receive(self, delivery: Delivery) -> None:
        with self._changed:
            self.deliveries.append(delivery)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()
        if self._ack:
            delivery.ack()

    def listen(self, connected: bool, detail: str) -> None:  # noqa: FBT001  the signature of ConnectionListener
        with self._changed:
            self.changes.append((connected, detail))
            self._changed.notify_all()

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    def until(self, condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, deadline_s), (
                f"not so within {deadline_s} s: {len(self.deliveries)} deliveries, changes {self.changes}"
            )

    def until_bodies(self, *expected: bytes, deadline_s: float = DEADLINE_S) -> None:
        """Wait for as many deliveries, then compare their bodies in order."""
        self.until(lambda: len(self.deliveries) >= len(expected), deadline_s)
        assert list(expected) == self.bodies

    def until_connected(self, deadline_s: float = DEADLINE_S) -> None:
        self.until(lambda: bool(self.changes) and self.changes[-1][0], deadline_s)

    def until_disconnected(self, deadline_s: float = DEADLINE_S) -> None:
        self.until(lambda: bool(self.changes) and not self.changes[-1][0], deadline_s)


def settled(*futures: Future[None], deadline_s: float = DEADLINE_S) -> None:
    """Wait until every publish has succeeded; raises the first failure."""
    for future in futures:
        future.result(deadline_s)
