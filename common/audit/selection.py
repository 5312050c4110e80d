"""Choose records of an audit log by who did what, when, and what it was about."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from common.audit.record import Action, Record

_ABOUT: Final = {
    "experiment_id",
    "run_id",
    "task_id",
    "plan_name",
    "plan_hash",
    "dataset_id",
    "parties",
    "digest",
    "code",
    "note",
}

_EXACT: Final = ("outcome", "experiment_id", "task_id", "dataset_id", "code")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are wanted; what is None does not matter.

    Attributes:
        actor: Part of who did it, in whatever case.
        actions: What was done, one of these.
        outcome: `done`, `refused` or `failed`.
        experiment_id: The experiment that it belongs to.
        task_id: The task that it is about.
        dataset_id: The data set that it is about.
        code: Code of the error.
        party: Part of who was told, or asked.
        about: Part of what it was about, in whatever case: an id, a hash, a name, a code, a party, a note.
        since: Unix time of the first record.
        until: Unix time before which the last record is.
    """

    actor: str | None = None
    actions: frozenset[Action] | None = None
    outcome: str | None = None
    experiment_id: str | None = None
    task_id: str | None = None
    dataset_id: str | None = None
    code: str | None = None
    party: str | None = None
    about: str | None = None
    since: float | None = None
    until: float | None = None

    def exact(self) -> dict[str, str]:
        """Return the fields of a record that must be just this."""
        return {name: value for name in _EXACT if (value := getattr(self, name)) is not None}

    def takes(self, record: Record) -> bool:
        """Tell whether a record is wanted."""
        return (
            (self.actor is None or self.actor.lower() in record.actor.lower())
            and (self.actions is None or record.action in self.actions)
            and all(getattr(record, name) == value for name, value in self.exact().items())
            and (self.party is None or any(self.party.lower() in one for one in record.parties or ()))
            and (self.about is None or self.about.lower() in _told(record))
            and (self.since is None or record.at >= self.since)
            and (self.until is None or record.at < self.until)
        )


@dataclass(frozen=True, slots=True)
class Selected:
    """Some of the records that are wanted, oldest first, and how many there are of them in all."""

    records: tuple[Record, ...]
    count: int


def select(records: Iterable[Record], wanted: Selection, *, most: int, skipped: int = 0) -> Selected:
    """Return the last records that are wanted.

    Args:
        records: In order.
        wanted: Which ones.
        most: How many of them at most.
        skipped: How many of the very last ones are left out, for earlier pages.
    """
    found: deque[Record] = deque(maxlen=most + skipped)
    count = 0
    for record in records:
        if wanted.takes(record):
            found.append(record)
            count += 1
    return Selected(tuple(found)[: max(0, len(found) - skipped)], count)


def _told(record: Record) -> str:
    found = record.model_dump(mode="json", include=_ABOUT, exclude_none=True)
    values = (value for one in found.values() for value in (one if isinstance(one, list) else [one]))
    return "\n".join(map(str, values)).lower()
