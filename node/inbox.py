"""Bring whatever happens, on whatever thread, to the one loop of the agent."""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from dataclasses import dataclass
from typing import Final

from common.clock import Clock
from common.mailbox import Mail
from node.outbox import ReplyPublished
from node.stops import StopAsked
from node.vigil import Touched
from node.worker.pool import WorkerEnded, WorkerSaid

_BATCH: Final = 64
"""Most events in one transaction; short enough to answer quickly."""


@dataclass(frozen=True, slots=True)
class EndAsked:
    """Somebody wants the agent to end."""


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The connection to the broker came or went."""

    connected: bool
    detail: str


@dataclass(frozen=True, slots=True)
class RosterChanged:
    """Who belongs to the federation, or with which keys, is not what it was."""


Happening = (
    Mail | WorkerSaid | WorkerEnded | ReplyPublished | Touched | StopAsked | ConnectionChanged | RosterChanged
)


class Inbox:
    """What has happened and is not handled yet. Any thread may put; only the agent's thread takes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._urgent: queue.SimpleQueue[Happening | EndAsked] = queue.SimpleQueue()
        self._later: deque[Happening | EndAsked] = deque()  # what need not wake the loop
        self._batch: list[Happening | EndAsked] = []

    def put(self, happening: Happening | EndAsked) -> None:
        """Have it handled; what can wait is handled with the next one, or when something is due."""
        if can_wait(happening):
            self._later.append(happening)
        else:
            self._urgent.put(happening)

    def batch(self, until: float) -> list[Happening | EndAsked]:
        """Return all that is there, up to a bound; the same again until `handled` is called.

        Args:
            until: How long to wait if nothing is there, on the monotonic clock.
        """
        if not self._batch:
            urgent: list[Happening | EndAsked] = []
            with contextlib.suppress(queue.Empty):
                urgent.append(self._next(until))
                while len(urgent) < _BATCH:
                    urgent.append(self._urgent.get_nowait())
            self._batch = [*(self._later.popleft() for _ in range(len(self._later))), *urgent]
        return self._batch

    def handled(self) -> None:
        """Forget the last batch."""
        self._batch = []

    def gather(self, until: float) -> bool:
        """Add to the batch what comes until then, on the monotonic clock; stop and return False if the agent is to end."""
        with contextlib.suppress(queue.Empty):
            while not any(isinstance(one, EndAsked) for one in self._batch):
                self._batch.append(self._next(until))
            return False
        return True

    def _next(self, until: float) -> Happening | EndAsked:
        return self._urgent.get(timeout=max(0.0, until - self._clock.monotonic()))


def can_wait(happening: Happening | EndAsked) -> bool:
    """Tell whether something may be journalled with what happens later.

    That the broker has a reply may: if it is forgotten in a crash, the reply goes out once more and is recognised.
    """
    return isinstance(happening, ReplyPublished) and happening.error is None
