"""Let nodes train without waiting for each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import InvalidSettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncStrategy:
    """Buffered asynchronous aggregation, FedBuff (Nguyen et al., AISTATS 2022).

    Every node trains all the time. As soon as it has reported it gets the newest model and goes on. A round is one step of the
    global model: it closes with `buffer` updates, whoever they are from and whichever model they started from. The staleness
    of an update is the number of steps since its model was the newest. What it changed is scaled by its staleness, put upon
    the newest model, and given to the aggregator like any update.

    Attributes:
        buffer: Updates that close a step.
        staleness: `polynomial` scales by (1 + staleness) ** -exponent, `constant` does not scale.
        exponent: Of the polynomial.
        max_staleness: Updates that are more stale are recorded as late and not used; none uses all.
        retries: How often in a row a node is asked again after failures that are not final, before it is left out of the run.

    Raises:
        InvalidSettingsError: If a value is out of range.
    """

    buffer: int
    staleness: Literal["polynomial", "constant"] = "polynomial"
    exponent: float = 0.5
    max_staleness: int | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        problems = []
        if self.buffer < 1:
            problems.append("  buffer: should be at least 1")
        if self.staleness not in ("polynomial", "constant"):
            problems.append(f"  staleness: {self.staleness!r} is not polynomial or constant")
        if not self.exponent >= 0:
            problems.append("  exponent: should not be negative")
        if self.max_staleness is not None and self.max_staleness < 0:
            problems.append("  max_staleness: should not be negative")
        if self.retries < 0:
            problems.append("  retries: should not be negative")
        if problems:
            raise InvalidSettingsError(source="AsyncStrategy", problems="\n".join(problems))

    def weight(self, staleness: int) -> float:
        """Return by what the change of an update is scaled."""
        return 1.0 if self.staleness == "constant" else float((1 + staleness) ** -self.exponent)

    def uses(self, staleness: int) -> bool:
        """Tell whether an update so stale is used."""
        return self.max_staleness is None or staleness <= self.max_staleness
