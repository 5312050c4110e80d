"""Bound how fast something may go on: a burst, then so much for each second."""

from __future__ import annotations

import threading
import time


class Bucket:
    """Fills by `per_s` each second up to `size`, full at first. For one thread."""

    def __init__(self, size: int, per_s: int) -> None:
        self._size, self._per_s = size, per_s
        self._level = float(size)
        self._at = time.monotonic()

    def take(self, amount: int) -> float:
        """Take an amount, at most `size`, and return 0; if there is less, take nothing and return the seconds until there is."""
        now = time.monotonic()
        self._level = min(self._size, self._level + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._level:
            return (amount - self._level) / self._per_s
        self._level -= amount
        return 0.0

    def admit(self, amount: int, over: threading.Event) -> None:
        """Wait until an amount can be taken, and take it; return at once when the event is set."""
        while (pause_s := self.take(amount)) and not over.wait(pause_s):
            pass
