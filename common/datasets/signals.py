"""Give recordings of signals to a training plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue

from common.datasets.base import Dataset
from common.datasets.edf import Signal, opened, signals, values
from common.datasets.extras import library
from common.datasets.families.base import parsed
from common.datasets.formats import EDF
from common.datasets.listing import Listing, ListingOptions, list_files
from common.datasets.split import stable_ids
from common.errors import InvalidArgumentsError, UnknownColumnError

NO_CLASS: Final = -100
"""The target of a window without an annotation; torch's losses leave it out."""


class SignalOptions(ListingOptions):
    """How a hospital keeps its recordings."""

    channels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The names that plans use, and what this hospital's files call each; other channels keep their labels."""
    identified: Literal["refuse", "allow"] = "refuse"
    """What to do if files hold what identifies a patient."""


class SignalDataset(Dataset):
    """Recordings in EDF or BDF files, each read when it is needed: some windows of some channels.

    A sample is float32 of the shape (windows, channels, samples): windows lie evenly from the beginning of the recording to its
    end, and zeros fill what is too short. Its target is the class of the recording (int64), the number that the registered table
    holds (float32), or the annotation in the middle of each window (int64, one for each window).

    Args:
        channels: Their names, in the order that the model takes them.
        rate: Samples per second; channels of another rate are resampled, which needs scipy.
        window_s: Seconds of a window.
        windows: How many of each recording.
        classes: All classes of recordings, in the order of their numbers; name them, as for `ImageFolderDataset`.
        annotations: Texts of annotations that are classes of windows, in the order of their numbers. Windows with another one, or
            none, get -100, which torch's losses leave out.
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
        self._transform = transform
        self._target_transform = target_transform
        self._root = Path()
        self._listing = Listing((), (), ())
        self._targets: NDArray[Any] = np.empty(0, np.int64)
        self._labels: Mapping[str, tuple[str, ...]] = {}

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """List the recordings; none is read yet.

        Raises:
            InvalidDatasetError: If what was registered with the folder cannot be understood.
            DataFileError: If the folder or its table cannot be read.
            UnknownCategoryError: If there is a class that the plan does not name.
        """
        options = parsed(SignalOptions, parameters)
        self._root = path
        self._listing = list_files(path, options, EDF).without(options.unused)
        self._labels = options.channels
        if self._annotations is None:
            self._targets = self._listing.targets(self._classes)

    def __len__(self) -> int:
        return len(self._listing.names)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        with opened(self._root / self._listing.names[index]) as reader:
            found = named(signals(reader), self._labels)
            if lacking := [name for name in self._channels if name not in found]:
                raise UnknownColumnError(column=lacking[0], columns=", ".join(found))
            starts = np.linspace(0, max(reader.getFileDuration() - self._window_s, 0), self._windows)
            data = np.stack(
                [[self._window(reader, found[name], start) for name in self._channels] for start in starts]
            )
            target = self._targets[index] if self._annotations is None else self._noted(reader, starts)
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

    def _window(self, reader: Any, signal: Signal, start: float) -> NDArray[np.float32]:
        found = values(reader, signal, round(start * signal.rate), round(self._window_s * signal.rate))
        if signal.rate != self._rate and len(found):
            ratio = Fraction(self._rate / signal.rate).limit_denominator(1000)
            found = library("scipy.signal").resample_poly(found, ratio.numerator, ratio.denominator)
        window = np.zeros(round(self._window_s * self._rate), np.float32)
        window[: len(found)] = found[: len(window)]
        return window

    def _noted(self, reader: Any, starts: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class of the last annotation that holds in the middle of each window."""
        onsets, durations, texts = reader.readAnnotations()
        numbers = {text: number for number, text in enumerate(self._annotations or ())}
        noted = np.full(len(starts), NO_CLASS, np.int64)
        for onset, duration, text in zip(onsets, durations, texts, strict=True):
            middles = starts + self._window_s / 2
            noted[(middles >= onset) & (middles < onset + duration)] = numbers.get(text, NO_CLASS)
        return noted


def named(found: Mapping[str, Signal], channels: Mapping[str, tuple[str, ...]]) -> dict[str, Signal]:
    """Return channels by the names that plans use."""
    names = {label: name for name, labels in channels.items() for label in labels}
    return {names.get(label, label): signal for label, signal in found.items()}
