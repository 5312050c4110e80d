"""Slow down those who guess."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from common.clock import Clock

FREE: Final = 5
"""Wrong guesses about one account before it must wait."""
FREE_OF_ADDRESS: Final = 20
"""Wrong guesses from one address before it must wait; people behind one address share it."""
FIRST_WAIT_S: Final = 30.0
"""First wait; each further wrong guess doubles it."""
LONGEST_WAIT_S: Final = 15 * 60.0
"""Longest wait, so that nobody can keep a person out for good."""
FORGET_S: Final = 24 * 3600.0
"""After so long without a wrong guess nothing is remembered."""

_MOST: Final = 10_000
"""Names and addresses that are remembered; of more, the oldest are forgotten."""


@dataclass(slots=True)
class _Guesses:
    wrong: int = 0
    last_at: float = 0.0
    until: float = 0.0


class Throttle:
    """Counts guesses per account and per address, known or not. Thread-safe; forgets all when the process ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], _Guesses] = OrderedDict()

    def attempt(self, account: str, address: str) -> float:
        """Begin a guess: return 0 if it may be made, or the seconds to wait.

        A guess counts as wrong from here on, until `passed`: so many at once gain nothing.
        """
        now = self._clock.monotonic()
        with self._lock:
            both = [
                (self._of("account", account, now), FREE),
                (self._of("address", address, now), FREE_OF_ADDRESS),
            ]
            wait = max(one.until - now for one, _ in both)
            if wait > 0:
                return wait
            for one, free in both:
                one.wrong += 1
                one.last_at = now
                if one.wrong >= free:
                    one.until = now + min(FIRST_WAIT_S * 2 ** min(one.wrong - free, 10), LONGEST_WAIT_S)
        return 0.0

    def passed(self, account: str, address: str) -> None:
        """Take back that the last guess was wrong: forget those about the account, and one of the address."""
        with self._lock:
            self._known.pop(("account", account), None)
            one = self._known.get(("address", address))
            if one is not None:
                one.wrong, one.until = max(0, one.wrong - 1), 0.0

    def _of(self, kind: str, name: str, now: float) -> _Guesses:
        key = (kind, name[:200])
        one = self._known.get(key)
        if one is None or now - one.last_at > FORGET_S:
            one = self._known[key] = _Guesses()
        self._known.move_to_end(key)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return one
