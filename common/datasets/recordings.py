"""Say what a recording of signals is, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Signal:
    """One channel of a recording.

    Attributes:
        index: Its position in the file.
        rate: Samples per second.
        samples: How many there are.
        unit: Of its values, as the file says.
    """

    index: int
    rate: float
    samples: int
    unit: str


@dataclass(frozen=True, slots=True)
class Note:
    """An annotation.

    Attributes:
        onset_s: Seconds from the beginning of the recording.
        duration_s: Seconds that it holds; 0 if it marks a moment.
        text: What it says.
    """

    onset_s: float
    duration_s: float
    text: str


class Recording(Protocol):
    """An open file of which only the header was read."""

    @property
    def signals(self) -> Mapping[str, Signal]:
        """Channels by the labels in the file; of equal labels, the first."""
        ...

    @property
    def duration_s(self) -> float:
        """Seconds from the first sample to the last."""
        ...

    def values(self, signals: Sequence[Signal], start_s: float, length_s: float) -> list[NDArray[np.float64]]:
        """Return a part of some channels in their units, each at its own rate; fewer values where the recording ends.

        Raises:
            DataFileError: If they cannot be read, or are not numbers.
        """
        ...

    def notes(self) -> Sequence[Note]:
        """Return the annotations in the order of the file.

        Raises:
            DataFileError: If they cannot be read.
        """
        ...

    def identifying(self) -> tuple[str, ...]:
        """Return the names of header fields that identify somebody, without their values."""
        ...
