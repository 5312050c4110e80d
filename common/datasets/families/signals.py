"""Look into folders of recordings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.edf import Signal, identifying, opened, signals, values
from common.datasets.families.base import Inspection, each_readable
from common.datasets.formats import EDF
from common.datasets.listing import list_files
from common.datasets.signals import SignalOptions, named
from common.errors import IdentifiedPatientsError
from common.messages import Column

_CHUNK: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SignalFamily:
    """Recordings below one folder."""

    options: type[SignalOptions] = SignalOptions

    def inspect(self, path: Path, options: SignalOptions) -> Inspection:
        """Read every recording once.

        Raises:
            DataFileError: If it is no folder of recordings, or some are broken and the rule refuses that.
            IdentifiedPatientsError: If headers hold what identifies a patient and the rule refuses that.
            UnknownColumnError: If the table lacks a column.
            MissingExtraError: If pyedflib is not installed.
        """
        listing = list_files(path, options, EDF)
        looks, broken = each_readable(
            listing.names, lambda name: _look(path / name, options), path, options, "a folder of recordings"
        )
        telling = Counter(field for _, fields in looks.values() for field in fields)
        if telling and options.identified == "refuse":
            raise IdentifiedPatientsError(
                path=path, count=max(telling.values()), tags=", ".join(sorted(telling))
            )
        channels = sorted({name for found, _ in looks.values() for name in found})
        return Inspection(
            samples=len(looks),
            shape=(len(looks),),
            columns=tuple(
                _column(name, [found.get(name) for found, _ in looks.values()]) for name in channels
            ),
            classes=listing.classes,
            broken=broken,
            left_out=len(listing.names) - len(looks) - len(broken),
        )

    def preview(self, path: Path, options: SignalOptions, count: int) -> list[dict[str, JsonValue]]:
        """Return name, label, length and channels of the first recordings.

        Raises:
            DataFileError: If they cannot be read.
        """
        listing = list_files(path, options, EDF).without(options.unused)
        labels: list[JsonValue] = [*listing.labels[:count]]
        rows: list[dict[str, JsonValue]] = []
        for name, label in zip(listing.names[:count], labels, strict=True):
            with opened(path / name) as reader:
                channels = ", ".join(named(signals(reader), options.channels))
                rows.append(
                    {"file": name, "label": label, "seconds": reader.getFileDuration(), "channels": channels}
                )
        return rows


def _look(path: Path, options: SignalOptions) -> tuple[dict[str, Signal], tuple[str, ...]]:
    """Return the channels of a recording and what in it identifies somebody, after reading all of it."""
    with opened(path) as reader:
        found = named(signals(reader), options.channels)
        for signal in found.values():
            for start in range(0, signal.samples, _CHUNK):
                values(reader, signal, start, _CHUNK)
        return found, identifying(reader)


def _column(name: str, found: list[Signal | None]) -> Column:
    there = [signal for signal in found if signal is not None]
    rates = "/".join(f"{rate:g}" for rate in sorted({signal.rate for signal in there}))
    units = "/".join(sorted({signal.unit for signal in there if signal.unit}))
    return Column(name=name, dtype=f"signal {rates} Hz", missing=len(found) - len(there), unit=units[:50])


FAMILY: Final = SignalFamily()
