"""Warn in time that a party's certificate expires."""

from __future__ import annotations

import logging
from typing import Final

from common import metrics
from common.clock import Clock

log = logging.getLogger(__name__)

WARN_DAYS: Final = 30
"""So many days before the end, people are told."""

_DAY_S: Final = 86400.0


class Expiry:
    """Knows when a certificate expires, tells Prometheus, and says so in the log once a day when the end is near."""

    def __init__(self, expires_at: float, clock: Clock) -> None:
        """Set the metric.

        Args:
            expires_at: Unix time.
            clock: Tells the time.
        """
        self._expires_at = expires_at
        self._clock = clock
        self._remind_at = 0.0
        metrics.CERTIFICATE_EXPIRES.set(expires_at)

    def remind(self) -> None:
        """Say how many days are left, unless there are many or it was said today."""
        now = self._clock.now()
        days = (self._expires_at - now) / _DAY_S
        if days < WARN_DAYS and now >= self._remind_at:
            self._remind_at = now + _DAY_S
            facts = {"action": "certificate_expires", "days_left": round(days, 1)}
            log.warning("certificate expires soon, ask the federation operator to renew it", extra=facts)
