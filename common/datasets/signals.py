"""Give recordings of signals to a training plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset
from common.datasets.extras import library
from common.datasets.families.base import parsed
from common.datasets.listing import Listing
from common.datasets.recordings import Recording, Signal
from common.datasets.signal_files import SignalOptions, list_recordings, named, open_recording
from common.datasets.split import stable_ids
from common.errors import InvalidArgumentsError, UnknownColumnError

NO_CLASS: Final = -100
"""The target of a window without an annotation; torch's losses leave it out."""

_VOLTS: Final = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6, "nV": 1e-9}


class SignalDataset(Dataset):
    """Recordings in EDF, BDF or WFDB files, each read when it is needed: some windows of some channels.

    A sample is float32 of the shape (windows, channels, samples): windows lie evenly from the beginning of the recording to its
    end, and zeros fill what is too short. Its target is the class of the recording (int64), the number that the registered table
    holds (float32), or what is annotated in each window (int64, one for each).

    Args:
        channels: Their names, in the order that the model takes them.
        rate: Samples per second; channels of another rate are resampled, which needs scipy.
        window_s: Seconds of a window.
        windows: How many of each recording.
        classes: All classes of recordings, in the order of their numbers; name them, as for `ImageFolderDataset`.
        annotations: Texts of annotations that are classes of windows, in the order of their numbers. Windows with another one, or
            none, get -100, which torch's losses leave out.
        noted: The rule for that: "middle" is the last annotation that holds in the middle of the window, as stages and rhythms do;
            "within" is the class of the highest number of which an annotation begins in the window, as beats do.
        unit: What values are converted to from other units of voltage; none leaves each channel in the unit of its file.
        transform: Applied to each array.
        target_transform: Applied to each target.

    Raises:
        InvalidArgumentsError: If rate, length or number of windows are not positive.
    """

    data_types = frozenset({"signals"})

    def __init__(
        self,
        channels: Sequence[str],
        *,
        rate: float,
        window_s: float,
        windows: int = 1,
        classes: Sequence[str] | None = None,
        annotations: Sequence[str] | None = None,
        noted: Literal["middle", "within"] = "middle",
        unit: Literal["V", "mV", "uV", "nV"] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if min(rate, window_s, windows) <= 0 or not channels:
            raise InvalidArgumentsError(
                problems="  name channels, and give rate, window_s and windows above 0"
            )
        self._channels = list(channels)
        self._rate = rate
        self._window_s = window_s
        self._windows = windows
        self._classes = classes
        self._annotations = annotations
        self._rule = noted
        self._unit = unit
        self._transform = transform
        self._target_transform = target_transform
        self._root = Path()
        self._listing = Listing((), (), ())
        self._targets: NDArray[Any] = np.empty(0, np.int64)
        self._options = SignalOptions()

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """List the recordings; none is read yet.

        Raises:
            InvalidDatasetError: If what was registered with the folder cannot be understood.
            DataFileError: If the folder or its table cannot be read.
            UnknownCategoryError: If there is a class that the plan does not name.
        """
        options = parsed(SignalOptions, parameters)
        self._root = path
        self._listing = list_recordings(path, options).without(options.unused)
        self._options = options
        if self._annotations is None:
            self._targets = self._listing.targets(self._classes)

    def __len__(self) -> int:
        return len(self._listing.names)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        with open_recording(self._root, self._listing.names[index], self._options) as recording:
            found = named(recording.signals, self._options.channels)
            if lacking := [name for name in self._channels if name not in found]:
                raise UnknownColumnError(column=lacking[0], columns=", ".join(found))
            chosen = [found[name] for name in self._channels]
            scales = [self._scale(signal) for signal in chosen]
            starts = np.linspace(0, max(recording.duration_s - self._window_s, 0), self._windows)
            data = np.zeros((len(starts), len(chosen), round(self._window_s * self._rate)), np.float32)
            for window, start in zip(data, starts, strict=True):
                parts = recording.values(chosen, start, self._window_s)
                for row, part, signal, scale in zip(window, parts, chosen, scales, strict=True):
                    at_rate = self._resampled(part, signal.rate)[: len(row)]
                    row[: len(at_rate)] = at_rate if scale == 1 else scale * at_rate
            target = self._targets[index] if self._annotations is None else self._noted(recording, starts)
        return (
            self._transform(data) if self._transform else data,
            self._target_transform(target) if self._target_transform else target,
        )

    def sample_ids(self) -> NDArray[np.int64]:
        """Return an id for each recording that follows from its name."""
        return stable_ids(self._listing.names)

    def subjects(self) -> NDArray[np.int64]:
        """Return whose each file is: its name without folder and ending says that."""
        return stable_ids(PurePosixPath(name).stem for name in self._listing.names)

    def _scale(self, signal: Signal) -> float:
        """Return what values are multiplied with to have the unit of the plan."""
        if self._unit is None:
            return 1.0
        if signal.unit not in _VOLTS:
            raise UnknownColumnError(column=f"in {self._unit}", columns=f"one in {signal.unit or 'no unit'}")
        return _VOLTS[signal.unit] / _VOLTS[self._unit]

    def _resampled(self, part: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
        if rate == self._rate or not len(part):
            return part
        ratio = Fraction(self._rate / rate).limit_denominator(1000)
        found: NDArray[np.float64] = library("scipy.signal").resample_poly(
            part, ratio.numerator, ratio.denominator
        )
        return found

    def _noted(self, recording: Recording, starts: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class of each window by the rule of `noted`."""
        numbers = {text: number for number, text in enumerate(self._annotations or ())}
        noted = np.full(len(starts), NO_CLASS, np.int64)
        for note in recording.notes():
            number = numbers.get(note.text, NO_CLASS)
            if self._rule == "middle":
                middles = starts + self._window_s / 2
                noted[(middles >= note.onset_s) & (middles < note.onset_s + note.duration_s)] = number
            else:
                begun = (starts <= note.onset_s) & (note.onset_s < starts + self._window_s)
                noted[begun] = np.maximum(noted[begun], number)
        return noted
