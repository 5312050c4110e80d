"""Follow the signals of a recording, as far as eyes can."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.families import family
from common.datasets.families.base import parsed
from node.views.figures import Trace

CHANNELS: Final = 8
"""Signals that are drawn."""
SECONDS: Final = 30.0
"""How much of each is drawn, from its beginning."""
PIECES: Final = 500
"""In how many pieces it is drawn, each with its least and its greatest value."""


def traces(path: Path, data_type: str, options: Mapping[str, JsonValue]) -> tuple[Trace, ...]:
    """Return the beginning of the first recording; nothing if the data set has no recordings.

    Raises:
        DataError: If it cannot be read.
        MissingExtraError: If a library is not installed.
    """
    if data_type != "signals":
        return ()
    from common.datasets.signal_files import list_recordings, named, open_recording

    said: Any = parsed(family(data_type).options, options)
    name = list_recordings(path, said).without(said.unused).names[0]
    with open_recording(path, name, said) as recording:
        channels = dict(islice(named(recording.signals, said.channels).items(), CHANNELS))
        found = recording.values(list(channels.values()), 0.0, SECONDS)
    drawn = []
    for (channel, signal), values in zip(channels.items(), found, strict=True):
        low, high = envelope(values)
        seconds = len(values) / signal.rate
        drawn.append(Trace(name=channel, unit=signal.unit, seconds=seconds, low=low, high=high))
    return tuple(drawn)


def envelope(values: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the least and the greatest value of each piece: no peak is lost, however long the signal is."""
    pieces = [piece for piece in np.array_split(values, PIECES) if len(piece)]
    return tuple(float(piece.min()) for piece in pieces), tuple(float(piece.max()) for piece in pieces)
