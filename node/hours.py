"""Say when a node works, by the clock and calendar of its machine."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS: Final = rf"^(?:(?:{'|'.join(DAYS)})(?:-(?:{'|'.join(DAYS)}))? )?(?:[01]\d|2[0-3]):[0-5]\d-(?:(?:[01]\d|2[0-3]):[0-5]\d|24:00)$"
"""`19:00-07:00`, `Fri 18:00-24:00` or `Mon-Fri 19:00-07:00`."""

_PARTS: Final = re.compile(r"(?:(\w{3})(?:-(\w{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY_MIN: Final = 24 * 60
_WEEK_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Span:
    """Hours of some days of the week, from a minute of the day up to another, which may be of the day after.

    Attributes:
        days: 0 for Monday to 6 for Sunday; those on which it begins.
        start: Minute of the day.
        end: Minute after `start`, counted from the same midnight.
    """

    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read what matches `HOURS`; days that begin later in the week than they end go over the weekend."""
        match = _PARTS.fullmatch(text)
        assert match is not None  # noqa: S101  the settings were checked against the pattern
        first, last, *clock = match.groups()
        begin = DAYS.index(first) if first else 0
        count = (DAYS.index(last) - begin) % _WEEK_DAYS + 1 if last else 1 if first else _WEEK_DAYS
        days = frozenset((begin + offset) % _WEEK_DAYS for offset in range(count))
        hour, minute, end_hour, end_minute = map(int, clock)
        start, end = 60 * hour + minute, 60 * end_hour + end_minute
        return cls(days, start, end if end > start else end + _DAY_MIN)

    def covers(self, day: int, minute: int) -> bool:
        """Tell whether a minute of a day lies within."""
        today = day in self.days and self.start <= minute < self.end
        yesterday = (day - 1) % _WEEK_DAYS in self.days and minute + _DAY_MIN < self.end
        return today or yesterday


class WorkingHours:
    """The hours in which a node begins tasks; those that run when they end run on.

    Args:
        texts: Each matches `HOURS`; none means always.
    """

    def __init__(self, texts: Sequence[str] | None) -> None:
        self._spans = None if texts is None else tuple(map(Span.parse, texts))

    def open(self, at: float) -> bool:
        """Tell whether tasks may begin at a Unix time."""
        if self._spans is None:
            return True
        there = time.localtime(at)
        return any(span.covers(there.tm_wday, 60 * there.tm_hour + there.tm_min) for span in self._spans)

    def changes_at(self, at: float) -> float | None:
        """Return the Unix time after `at` at which the node next opens or closes; None if it never does."""
        now = self.open(at)
        moments = sorted(moment for moment in self._boundaries(at) if moment > at)
        return next((moment for moment in moments if self.open(moment) != now), None)

    def _boundaries(self, at: float) -> Iterator[float]:
        there = time.localtime(at)
        for offset in range(-1, _WEEK_DAYS + 2):
            for span in self._spans or ():
                for minute in (span.start, span.end):
                    # mktime carries days and minutes over and knows when clocks are changed
                    yield time.mktime(
                        (there.tm_year, there.tm_mon, there.tm_mday + offset, 0, minute, 0, 0, 0, -1)
                    )
