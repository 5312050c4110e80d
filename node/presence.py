"""Tell every researcher, again and again, that a node is there and how it works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common.clock import Clock
from common.mailbox import Mailbox
from common.messages import NodeInfo, NodePresence
from common.security.expiry import Expiry
from common.settings import Timeouts
from node.figures import Figures
from node.policy import Policy
from node.work import Work
from node.worker.pool import WorkerPool

_SHARE: Final = 0.4
"""Presence is told every 0.4 of the silence after which a node counts as offline, so that one lost message does not matter."""


class Presence:
    """Says when presence is due, and says it. Used by the agent's thread only."""

    def __init__(
        self,
        mailbox: Mailbox,
        policy: Policy,
        info: Callable[[], NodeInfo],
        *,
        expires_at: float,
        clock: Clock,
        timeouts: Timeouts,
    ) -> None:
        """Presence is due at once.

        Args:
            mailbox: Where it is told.
            policy: Says whether figures are told too.
            info: Says how the node is doing.
            expires_at: Unix time at which its certificate, or that of its authority, expires.
            clock: Tells the time.
            timeouts: When a silent node counts as offline.
        """
        self._mailbox = mailbox
        self._telemetry = policy.telemetry
        self._info = info
        self._clock = clock
        self._every_s = _SHARE * timeouts.presence_s
        self._expiry = Expiry(expires_at, clock)
        self._figures = Figures(expires_at=expires_at, disk_floor_bytes=policy.disk_floor_bytes)
        self.due = clock.monotonic()
        """When it must be said next, on the monotonic clock."""

    def hasten(self) -> None:
        """Make it due now."""
        self.due = self._clock.monotonic()

    def say(self, work: Work, pool: WorkerPool, *, leaving: bool = False) -> None:
        """Measure how the node works, and tell the researchers, if there are any."""
        self.due = self._clock.monotonic() + self._every_s
        self._expiry.remind()
        figures = self._figures.measure(
            workers=pool.pids,
            free_bytes=pool.free_bytes,
            phases={"waiting": work.waiting, "running": work.running, "unsent": work.unsent},
        )
        researchers = tuple(member.party for member in self._mailbox.roster.active("researcher"))
        if researchers:
            self._mailbox.send(
                NodePresence(
                    sender=self._mailbox.party,
                    recipients=researchers,
                    info=self._info(),
                    figures=figures if self._telemetry else None,
                    leaving=leaving,
                )
            )
