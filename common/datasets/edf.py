"""Read EDF and BDF recordings with pyedflib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.datasets.recordings import Note, Signal
from common.errors import DataFileError

_IDENTIFYING: Final = {
    "patient name": "getPatientName",
    "patient code": "getPatientCode",
    "birth date": "getBirthdate",
    "patient details": "getPatientAdditional",
    "administration code": "getAdmincode",
    "technician": "getTechnician",
}
_NOTHING: Final = frozenset({"x", "anonymous", "anonymized"})


class EdfRecording:
    """An open EDF, EDF+ or BDF file."""

    def __init__(self, path: Path, reader: Any) -> None:
        self._path = path
        self._reader = reader
        self.duration_s = float(reader.getFileDuration())
        self.signals: Mapping[str, Signal] = _signals(reader)

    def values(self, signals: Sequence[Signal], start_s: float, length_s: float) -> list[NDArray[np.float64]]:
        """Return a part of some channels, as `Recording` says.

        Raises:
            DataFileError: If a value is not finite.
        """
        found = [self._part(one, round(start_s * one.rate), round(length_s * one.rate)) for one in signals]
        if not all(np.isfinite(part).all() for part in found):
            raise DataFileError(path=self._path, data_type="EDF", reason="a value is not finite")
        return found

    def notes(self) -> list[Note]:
        """Return the annotations of EDF+; one without a length marks a moment."""
        return [
            Note(float(onset), max(float(duration), 0.0), str(text))
            for onset, duration, text in zip(*self._reader.readAnnotations(), strict=True)
        ]

    def identifying(self) -> tuple[str, ...]:
        """Return the names of header fields that identify a patient or a technician, without their values."""
        texts = {name: str(getattr(self._reader, method)()) for name, method in _IDENTIFYING.items()}
        texts["patient"] = self._reader.patient.decode("latin-1")  # plain EDF has one field for all of it
        return tuple(name for name, text in texts.items() if not set(text.lower().split()) <= _NOTHING)

    def _part(self, signal: Signal, start: int, count: int) -> NDArray[np.float64]:
        count = min(count, signal.samples - start)
        found: NDArray[np.float64] = (
            self._reader.readSignal(signal.index, start, count) if count > 0 else np.empty(0)
        )
        return found


@contextmanager
def open_edf(path: Path) -> Iterator[EdfRecording]:
    """Yield a recording of which only the header was read.

    Raises:
        DataFileError: If there is no such file, its header is wrong, or it is shorter than its header says.
        MissingExtraError: If pyedflib is not installed.
    """
    reader_type = library("pyedflib").EdfReader
    if not path.is_file():
        raise DataFileError(path=path, data_type="EDF", reason="there is no such file")
    try:
        reader = reader_type(str(path))
    except (OSError, ValueError, KeyError, IndexError) as error:
        reason = "its header is wrong, or does not fit its length"
        raise DataFileError(path=path, data_type="EDF", reason=reason) from error
    try:
        yield EdfRecording(path, reader)
    finally:
        reader.close()


def _signals(reader: Any) -> dict[str, Signal]:
    found: dict[str, Signal] = {}
    lengths = reader.getNSamples()
    for index, label in enumerate(reader.getSignalLabels()):
        unit = reader.getPhysicalDimension(index).strip()
        found.setdefault(
            label.strip(), Signal(index, float(reader.getSampleFrequency(index)), int(lengths[index]), unit)
        )
    return found
