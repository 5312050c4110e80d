"""Bound the disk that an experiment takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from common.errors import InvalidSettingsError
from researcher.holdings import Holdings
from researcher.ledger import Ledger
from researcher.memory import Memory


@dataclass(frozen=True, slots=True)
class Retention:
    """Of how many rounds an experiment keeps its files; what happened in them is kept always.

    Whatever is kept, an experiment can be resumed. A round can be replayed while its updates are kept, and loaded, branched and
    exported while its model is. The first and the last model are always kept.

    Attributes:
        updates: Keep the updates of so many finished rounds; none keeps all.
        models: Keep the models of so many finished rounds; none keeps all.
    """

    updates: int | None = None
    models: int | None = None

    @classmethod
    def of(cls, wanted: Retention | Mapping[str, Any] | None) -> Self:
        """Return a retention as a person wrote it.

        Raises:
            InvalidSettingsError: If a key is unknown or a number is out of range.
        """
        if isinstance(wanted, cls):
            return wanted
        given = dict(wanted) if isinstance(wanted, Mapping) else {}
        problems = [f"  {name}: is not updates or models" for name in given.keys() - {"updates", "models"}]
        for name, least in (("updates", 0), ("models", 1)):
            number = given.get(name)
            whole = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and (not whole or number < least):
                problems.append(f"  {name}: should be a whole number of at least {least}")
        if problems:
            raise InvalidSettingsError(source="retention", problems="\n".join(sorted(problems)))
        return cls(**given)

    def apply(self, ledger: Ledger, store: Holdings, memories: Iterable[Memory]) -> int:
        """Remove what need not be kept, and return how many updates and models that were."""
        if self.updates is None and self.models is None:
            return 0
        last = ledger.last_model()
        if last is None:
            return 0
        first_updates = 0 if self.updates is None else last[0] - self.updates + 1
        first_models = 0 if self.models is None else last[0] - self.models + 1
        removed = store.remove(ledger.expired(first_updates, first_models))
        for memory in memories:
            memory.forget(first_models, last[0])
        return removed
