"""Find the recordings of a folder and open them, whatever their format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import Field

from common.datasets.formats import EDF, WFDB
from common.datasets.listing import Listing, ListingOptions, list_files
from common.datasets.recordings import Recording, Signal

_FORMATS: Final = EDF | WFDB


class SignalOptions(ListingOptions):
    """How a hospital keeps its recordings."""

    channels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The names that plans use, and what this hospital's files call each; other channels keep their labels."""
    annotator: Annotated[str, Field(pattern=r"^[A-Za-z]\w{0,31}$")] = "atr"
    """The ending of the files of annotations beside WFDB records."""
    identified: Literal["refuse", "allow"] = "refuse"
    """What to do if files hold what identifies a patient."""


def list_recordings(root: Path, options: SignalOptions) -> Listing:
    """Return the recordings below a folder, or those that its table lists; segments of WFDB records are no samples.

    Raises:
        DataFileError: If it is no folder, something in it leads out of it, it holds no recording, or one lies in no class.
        UnknownColumnError: If the table lacks a column.
    """
    listing = list_files(root, options, _FORMATS)
    headers = [name for name in listing.names if PurePosixPath(name).suffix.lower() in WFDB]
    if options.table is not None or not headers:
        return listing
    from common.datasets.wfdb import segments_of

    return listing.without(segments_of(root, headers))


@contextmanager
def open_recording(root: Path, name: str, options: SignalOptions) -> Iterator[Recording]:
    """Yield a recording of which only headers were read.

    Raises:
        DataFileError: If it cannot be read.
        MissingExtraError: If the library for it is not installed.
    """
    if PurePosixPath(name).suffix.lower() in WFDB:
        from common.datasets.wfdb import open_wfdb

        yield open_wfdb(root, name, options.annotator)
        return
    from common.datasets.edf import open_edf

    with open_edf(root / name) as recording:
        yield recording


def named(found: Mapping[str, Signal], channels: Mapping[str, tuple[str, ...]]) -> dict[str, Signal]:
    """Return channels by the names that plans use."""
    names = {label: name for name, labels in channels.items() for label in labels}
    return {names.get(label, label): signal for label, signal in found.items()}
