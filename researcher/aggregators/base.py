"""Define what an aggregator gets and promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.ids import PartyId


@dataclass(frozen=True, slots=True)
class Contribution:
    """One update that passed the gate: it has the names, shapes and dtypes of the base, and only finite numbers.

    Attributes:
        node: Whose it is.
        path: Its safetensors file.
        samples_seen: Samples that took part in optimisation steps, counted each time; at least 1.
        samples_train: Samples in the training part of the data set.
    """

    node: PartyId
    path: Path
    samples_seen: int
    samples_train: int


class Aggregator(Protocol):
    """A pure function from files to a file: the same input gives the same bytes."""

    def aggregate(self, base: Path, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the new global model.

        Args:
            base: The global model that the round started from.
            contributions: At least one, in node order, whatever the order of arrival.
            target: Where to write; names, shapes and dtypes are those of the base.
        """
        ...
