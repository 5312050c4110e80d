"""Read WFDB records with the library of PhysioNet; their files name other files, of which only neighbours are opened."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.datasets.files import inside
from common.datasets.recordings import Note, Signal
from common.errors import DataFileError

MOST_TEXT: Final = 1024**2
"""Bytes of a header."""
MOST_NOTES: Final = 8 * 1024**2
"""Bytes of a file of annotations; each takes 2 or more."""
MOST_FRAME: Final = 65_536
"""Samples of all channels at one moment."""
MOST_SKEW: Final = 10_000
"""Moments by which a channel may be shifted; the library makes room for all of them."""
MOST_SAMPLES: Final = 64 * 1024**2
"""Samples of all channels that are read at once."""

_BITS: Final[Mapping[str, float]] = {
    "8": 8,
    "80": 8,
    "212": 12,
    "310": 32 / 3,
    "311": 32 / 3,
    "16": 16,
    "61": 16,
    "160": 16,
    "24": 24,
    "32": 32,
}
"""Bits of a sample in each format of which the size of a file follows."""
_DIFFERENCES: Final = "8"
"""The format whose samples follow from all before them; the library takes the first that it reads for the first of the file."""
_PACKED: Final = frozenset({"508", "516", "524"})
_NO_FILE: Final = "~"
_TELLING: Final = re.compile(
    r"\b(name|birth|dob|mrn|ssn|address|phone|physician|doctor|technician)\b", re.IGNORECASE
)
_FAULTS: Final = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
"""What the library raises for damaged files."""


class WfdbRecording:
    """A WFDB record of which the headers were read, its own and those of its segments."""

    def __init__(self, root: Path, name: str, annotator: str) -> None:
        """Read the headers of a record, and compare them with the sizes of its files.

        Args:
            root: The folder of the data set, which nothing that a header names may leave.
            name: Path of the record's header from there.
            annotator: The ending of its file of annotations.

        Raises:
            DataFileError: If a file is missing, wrong, shorter than announced, or outside the folder.
            MissingExtraError: If wfdb is not installed.
        """
        self._root = root
        self._path = root / name
        self._annotator = annotator
        self._telling = False
        self._differences = False
        with _quiet():
            self._wfdb = library("wfdb")
        header = self._header(self._path)
        channels = self._segments(header) if hasattr(header, "seg_name") else header
        if channels is header:
            self._check_files(header)
        if not header.sig_len or not header.fs or not channels.n_sig:
            raise self._unreadable("its header announces no samples, no rate or no channel")
        self._frames = int(header.sig_len)
        self._rate = float(header.fs)
        self._per_frame = [int(count) for count in channels.samps_per_frame]
        self.duration_s = self._frames / self._rate
        self.signals: Mapping[str, Signal] = self._named(channels)

    def values(self, signals: Sequence[Signal], start_s: float, length_s: float) -> list[NDArray[np.float64]]:
        """Return a part of some channels, as `Recording` says; what the file marks as missing is 0.

        Raises:
            DataFileError: If it cannot be read, is too much to be read at once, or a value is not finite.
        """
        first = 0 if self._differences else floor(start_s * self._rate)
        last = min(ceil((start_s + length_s) * self._rate), self._frames)
        if last <= first:
            return [np.empty(0) for _ in signals]
        if (last - first) * sum(self._per_frame) > MOST_SAMPLES:
            raise self._unreadable(f"more than {MOST_SAMPLES} samples would be read at once")
        wanted = list(dict.fromkeys(signal.index for signal in signals))
        try:
            with np.errstate(all="ignore"):  # what is not finite is found below
                record = self._wfdb.rdrecord(
                    _stem(self._path), sampfrom=first, sampto=last, channels=wanted, smooth_frames=False
                )
            found = dict(zip(wanted, record.e_p_signal, strict=True))
        except _FAULTS as error:
            raise self._unreadable("its samples are damaged, or end early") from error
        parts = []
        for signal in signals:
            start = round(start_s * signal.rate) - first * self._per_frame[signal.index]
            part = found[signal.index][start : start + round(length_s * signal.rate)]
            parts.append(np.nan_to_num(part, posinf=np.inf, neginf=-np.inf))
        if not all(np.isfinite(part).all() for part in parts):
            raise self._unreadable("a value is not finite")
        return parts

    def notes(self) -> list[Note]:
        """Return the annotations: one with a text of its own holds until the next such one of the same mark, others are moments.

        Raises:
            DataFileError: If their file is damaged or too long.
        """
        path = self._path.with_suffix(f".{self._annotator}")
        if not path.exists():
            return []
        if self._neighbour(path.name).stat().st_size > MOST_NOTES:
            raise self._unreadable(f"its annotations have more than {MOST_NOTES} bytes")
        try:
            with _quiet():
                found = self._wfdb.rdann(_stem(path), self._annotator)
            onsets = [int(sample) / (found.fs or self._rate) for sample in found.sample]
            texts = [(text or "").strip("\0 ") for text in found.aux_note]
            marks: list[str] = list(found.symbol)
        except _FAULTS as error:
            raise self._unreadable("its annotations are damaged") from error
        ends = {}
        for mark in set(marks):
            states = [place for place, text in enumerate(texts) if text and marks[place] == mark]
            ends.update({place: onsets[following] for place, following in pairwise(states)})
            ends.update(dict.fromkeys(states[-1:], self.duration_s))
        return [
            Note(onset, max(ends.get(place, onset) - onset, 0.0), text or mark)
            for place, (onset, text, mark) in enumerate(zip(onsets, texts, marks, strict=True))
        ]

    def identifying(self) -> tuple[str, ...]:
        """Return "comments" if a comment of a header speaks of a name or the like; what else they say is not understood."""
        return ("comments",) if self._telling else ()

    def _header(self, path: Path) -> Any:
        if "::" in str(path):
            raise self._unreadable("its path has ::, which the library takes for an address")
        if self._neighbour(path.name).stat().st_size > MOST_TEXT:
            raise self._unreadable(f"a header has more than {MOST_TEXT} bytes")
        try:
            header = self._wfdb.rdheader(_stem(path))
        except _FAULTS as error:
            raise self._unreadable("its header is wrong") from error
        self._telling |= any(_TELLING.search(comment) for comment in header.comments)
        return header

    def _segments(self, header: Any) -> Any:
        """Check the segments of a record; return the header that describes its channels."""
        if sum(header.seg_len) != header.sig_len:
            raise self._unreadable("its segments do not add up to its length")
        segments: dict[str, Any] = {}
        for name, length in zip(header.seg_name, header.seg_len, strict=True):
            if name == _NO_FILE:
                continue
            if name not in segments:
                segments[name] = self._header(self._path.with_name(f"{name}.hea"))
                self._check_files(segments[name])
            if length > (segments[name].sig_len or 0):
                raise self._unreadable(f"segment {name} is shorter than announced")
        if not segments:
            raise self._unreadable("all its segments are empty")
        return next(iter(segments.values()))

    def _check_files(self, header: Any) -> None:
        """Insist on the files of one header: neighbours that are as long as announced."""
        if hasattr(header, "seg_name"):
            raise self._unreadable("a segment has segments itself")
        names, counts = header.file_name or [], header.samps_per_frame or []
        if len(names) != header.n_sig or not 0 <= sum(counts) <= MOST_FRAME:
            raise self._unreadable("its header does not describe its channels")
        if any(abs(skew or 0) > MOST_SKEW for skew in header.skew or []):
            raise self._unreadable(f"a channel is shifted by more than {MOST_SKEW} samples")
        for name in dict.fromkeys(names):
            if name == _NO_FILE:
                continue
            here = [channel for channel, other in enumerate(names) if other == name]
            form, size = header.fmt[here[0]], self._neighbour(name).stat().st_size
            if form not in _BITS and form not in _PACKED:
                raise self._unreadable(f"format {form} is unknown")
            self._differences |= form == _DIFFERENCES
            frame = sum(counts[channel] for channel in here)
            bits = (header.sig_len or 0) * frame * _BITS.get(form, 0)
            if size < (header.byte_offset[here[0]] or 0) + bits // 8:
                raise self._unreadable(f"its header announces more samples than {name} has")

    def _neighbour(self, name: str) -> Path:
        """Return the path of a file beside the record."""
        return inside(self._root, str(self._path.with_name(name).relative_to(self._root)))

    def _named(self, channels: Any) -> dict[str, Signal]:
        found: dict[str, Signal] = {}
        for index, (label, count) in enumerate(zip(channels.sig_name, self._per_frame, strict=True)):
            unit = channels.units[index] or ""
            signal = Signal(index, self._rate * count, self._frames * count, unit)
            found.setdefault(label or f"channel {index}", signal)
        return found

    def _unreadable(self, reason: str) -> DataFileError:
        return DataFileError(path=self._path, data_type="WFDB", reason=reason)


def open_wfdb(root: Path, name: str, annotator: str) -> WfdbRecording:
    """Return a record of which the headers were read; another time it is remembered, unless its header has changed.

    Raises:
        DataFileError: If it cannot be read.
        MissingExtraError: If wfdb is not installed.
    """
    status = inside(root, name).stat()
    return _remembered(root, name, annotator, status.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _remembered(root: Path, name: str, annotator: str, mtime_ns: int) -> WfdbRecording:  # noqa: ARG001 - part of the key
    return WfdbRecording(root, name, annotator)  # the library takes longer for a header than for a window


def segments_of(root: Path, names: Sequence[str]) -> frozenset[str]:
    """Return which headers are but parts of records among these, by the lines of the headers alone.

    Raises:
        DataFileError: If a header is gone.
    """
    parts: set[str] = set()
    for name in names:
        path = inside(root, name)
        with path.open(encoding="ascii", errors="replace") as file:
            lines = [line for line in file.read(MOST_TEXT).splitlines() if line.strip()[:1] not in ("", "#")]
        if lines and "/" in lines[0].split()[0]:
            folder = name.rpartition("/")[0]
            parts.update(f"{folder}/{line.split()[0]}.hea".removeprefix("/") for line in lines[1:])
    return frozenset(parts)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the library use what pandas calls outdated: wfdb 4.3 does so when it is imported and when it reads annotations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _stem(path: Path) -> str:
    return str(path.with_suffix(""))
