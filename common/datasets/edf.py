"""Read EDF and BDF recordings with pyedflib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
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


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield a reader of pyedflib, of which only the header was read.

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
        yield reader
    finally:
        reader.close()


def signals(reader: Any) -> dict[str, Signal]:
    """Return the channels of a recording by the labels in the file; of equal labels, the first."""
    found: dict[str, Signal] = {}
    lengths = reader.getNSamples()
    for index, label in enumerate(reader.getSignalLabels()):
        unit = reader.getPhysicalDimension(index).strip()
        found.setdefault(
            label.strip(), Signal(index, float(reader.getSampleFrequency(index)), int(lengths[index]), unit)
        )
    return found


def values(reader: Any, signal: Signal, start: int, count: int) -> NDArray[np.float64]:
    """Return values of a channel in its unit; fewer where the recording ends.

    Raises:
        DataFileError: If they are not numbers.
    """
    count = min(count, signal.samples - start)
    found: NDArray[np.float64] = reader.readSignal(signal.index, start, count) if count > 0 else np.empty(0)
    if not np.isfinite(found).all():
        raise DataFileError(path=Path(reader.file_name), data_type="EDF", reason="a value is not finite")
    return found


def identifying(reader: Any) -> tuple[str, ...]:
    """Return the names of header fields that identify a patient or a technician, without their values."""
    texts = {name: str(getattr(reader, method)()) for name, method in _IDENTIFYING.items()}
    texts["patient"] = reader.patient.decode("latin-1")  # plain EDF has one field for all of it
    return tuple(name for name, text in texts.items() if not set(text.lower().split()) <= _NOTHING)
