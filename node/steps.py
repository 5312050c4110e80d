"""Take the steps of an agent: each is written to journal and audit log at once, and what follows from it is done after that."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from common.audit.log import AuditLog
from common.audit.record import Entry
from common.clock import Clock
from node.audit import LEAVES
from node.journal import Journal

Deed = Callable[[], object]

_SYNC_S: Final = 0.1
"""How long steps after which nothing leaves may wait for the disk, and what came with them for its acks."""


@dataclass(frozen=True, slots=True)
class Consequences:
    """What is done after a step.

    Attributes:
        journalled: Done when the journal has the step. A power cut may undo the step and leave the deed: workers get and lose tasks.
        synced: Done when the step is on disk, to which it is brought at once: what others see, such as answers.
        settled: Done when the step is on disk, which may take a moment: acks, since the broker keeps what has none.
    """

    journalled: list[Deed] = field(default_factory=list)
    synced: list[Deed] = field(default_factory=list)
    settled: list[Deed] = field(default_factory=list)


class Steps:
    """Journal and audit log of an agent. Used by its thread only."""

    def __init__(self, journal: Journal, audit: AuditLog, clock: Clock) -> None:
        self._journal = journal
        self._audit = audit
        self._clock = clock
        self._entries: list[Entry] = []  # what the step in work does
        self._told: list[Entry] = []  # what earlier ones did that wait for the disk, and what is done then
        self._settling: list[Deed] = []
        self.due = math.inf
        """When a step must be taken next, for those that wait for the disk, on the monotonic clock."""

    def record(self, entry: Entry) -> None:
        """Have something that the step in work does written to the audit log."""
        self._entries.append(entry)

    @contextlib.contextmanager
    def step(self, after: Consequences, *, last: bool = False) -> Iterator[None]:
        """Journal everything of the block at once, and bring it to disk if something must not wait for that.

        What leaves, or is acked, stands in the audit log before. What a crash keeps from being journalled is recorded again when it is
        done again: the audit log may say something twice, and never too little.

        Args:
            after: What follows; `journalled` and `synced` hold what to do now when the block has ended. A block that raises
                leaves no trace but these.
            last: Whether nothing can wait, because no other step follows.

        Raises:
            DiskFullError: If there is no space.
            AuditBrokenError: If the audit log lost its end.
        """
        self._entries = []
        with self._journal.transaction():
            yield
            leaves = any(entry.action in LEAVES for entry in self._entries)
            sync = last or leaves or bool(after.synced) or self._clock.monotonic() >= self.due
            if sync:
                self._audit.append(*self._told, *self._entries, durable=leaves)
        if sync:
            self._journal.sync()
            after.synced.extend((*self._settling, *after.settled))  # behind what others wait for
            self._told, self._settling, self.due = [], [], math.inf
        else:
            self._told += self._entries
            self._settling += after.settled
            if self._told or self._settling:
                self.due = min(self.due, self._clock.monotonic() + _SYNC_S)
        after.settled.clear()
