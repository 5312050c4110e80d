"""Look into folders of recordings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.families.base import Inspection, each_readable
from common.datasets.recordings import Signal
from common.datasets.signal_files import SignalOptions, list_recordings, named, open_recording
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
            MissingExtraError: If pyedflib or wfdb is not installed and needed.
        """
        listing = list_recordings(path, options)
        looks, broken = each_readable(
            listing.names, lambda name: _look(path, name, options), path, options, "a folder of recordings"
        )
        telling = Counter(field for look in looks.values() for field in look.telling)
        if telling and options.identified == "refuse":
            raise IdentifiedPatientsError(
                path=path, count=max(telling.values()), tags=", ".join(sorted(telling))
            )
        channels = sorted({name for look in looks.values() for name in look.channels})
        return Inspection(
            samples=len(looks),
            shape=(len(looks),),
            columns=(
                *(_column(name, [look.channels.get(name) for look in looks.values()]) for name in channels),
                *_described(list(looks.values())),
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
        listing = list_recordings(path, options)
        labels: list[JsonValue] = [*listing.labels[:count]]
        rows: list[dict[str, JsonValue]] = []
        for name, label in zip(listing.names[:count], labels, strict=True):
            with open_recording(path, name, options) as recording:
                channels = ", ".join(named(recording.signals, options.channels))
                rows.append(
                    {"file": name, "label": label, "seconds": recording.duration_s, "channels": channels}
                )
        return rows


@dataclass(frozen=True, slots=True)
class _Look:
    """What there is in one recording, and what in it identifies somebody."""

    channels: dict[str, Signal]
    duration_s: float
    annotated: bool
    telling: tuple[str, ...]


def _look(root: Path, name: str, options: SignalOptions) -> _Look:
    """Read all of a recording."""
    with open_recording(root, name, options) as recording:
        found = named(recording.signals, options.channels)
        for signal in found.values():
            length_s = max(1, int(_CHUNK / signal.rate))
            for start_s in range(0, ceil(recording.duration_s), length_s):
                recording.values([signal], start_s, length_s)
        return _Look(found, recording.duration_s, bool(recording.notes()), recording.identifying())


def _described(looks: list[_Look]) -> list[Column]:
    """Return how long recordings are, roughly, and how many lack annotations, whose texts stay here."""
    shortest, longest = (f"{pick(look.duration_s for look in looks):.2g}" for pick in (min, max))
    span = shortest if shortest == longest else f"{shortest} to {longest}"
    annotated = sum(look.annotated for look in looks)
    notes = [Column(name="recording.annotations", dtype="annotations", missing=len(looks) - annotated)]
    return [Column(name="recording.duration", dtype=f"{span} s"), *(notes if annotated else [])]


def _column(name: str, found: list[Signal | None]) -> Column:
    there = [signal for signal in found if signal is not None]
    rates = "/".join(f"{rate:g}" for rate in sorted({signal.rate for signal in there}))
    units = "/".join(sorted({signal.unit for signal in there if signal.unit}))
    return Column(name=name, dtype=f"signal {rates} Hz", missing=len(found) - len(there), unit=units[:50])


FAMILY: Final = SignalFamily()
