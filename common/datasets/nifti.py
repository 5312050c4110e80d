"""Read volumes in NIfTI files without trusting them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.errors import DataFileError

MOST_VOXELS: Final = 512 * 1024**2
"""Largest volume: a small file can unpack to any size."""

_WHAT: Final = "NIfTI"
_MOST_PACKED: Final = 1032
"""Bytes that one byte of a gzip file can become."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How the voxels of a volume lie.

    Attributes:
        orientation: Where each axis leads, such as RAS: to the right, to the front, up.
        spacing: Millimetres between voxels along each axis.
        shape: Voxels along each axis.
        dtype: Of the values in the file.
    """

    orientation: str
    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: str


def open_volume(path: Path) -> Any:
    """Return an image of nibabel of which only the header was read: three axes of space, and perhaps one of channels or times.

    Raises:
        DataFileError: If there is none, its header is damaged, it has more than `MOST_VOXELS` voxels or other axes, its values are
            no real numbers, or the file is too short for them.
        MissingExtraError: If nibabel is not installed.
    """
    nibabel = library("nibabel")
    errors = (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
    )
    try:
        image = nibabel.load(path)
        if not 0 < prod(image.shape) <= MOST_VOXELS:
            raise _unreadable(path, f"it has {prod(image.shape)} voxels, and 1 to {MOST_VOXELS} are possible")
        if len(image.shape) < 3 or sum(size > 1 for size in image.shape[3:]) > 1:
            axes = "x".join(map(str, image.shape))
            raise _unreadable(
                path, f"it has the axes {axes}, and three of space and one of channels are possible"
            )
        dtype = image.get_data_dtype()
        if dtype.kind not in "iuf":
            raise _unreadable(path, f"its values are {dtype}, which are no real numbers")
        packed = _MOST_PACKED if path.suffix == ".gz" else 1
        if prod(image.shape) * dtype.itemsize > path.stat().st_size * packed:
            raise _unreadable(path, "it is too short for its voxels")  # room for them is never made
        return image
    except FileNotFoundError as error:
        raise _unreadable(path, "there is no such file") from error
    except (*errors, OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise _unreadable(path, "its header is damaged") from error


def values(image: Any, where: tuple[slice, ...] = ()) -> NDArray[Any]:
    """Return the values of a volume, or of a part of it, of which no more than that is read where the file allows it.

    Whole numbers that the file does not scale keep their dtype, all else is float32.

    Raises:
        DataFileError: If the file ends early or is damaged.
    """
    try:
        found: NDArray[Any] = np.asanyarray(image.dataobj[where] if where else image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(Path(image.get_filename()), "it is damaged, or ends early") from error
    return found if np.issubdtype(found.dtype, np.integer) else found.astype(np.float32, copy=False)


def channels_first(found: NDArray[Any]) -> NDArray[Any]:
    """Return a volume with its axis of channels or times before those of space; one channel if it has no such axis."""
    return np.moveaxis(found.reshape(*found.shape[:3], -1), -1, 0)


def grid(image: Any) -> Grid:
    """Return how the voxels of an image lie."""
    nibabel = library("nibabel")
    return Grid(
        orientation="".join(axis or "?" for axis in nibabel.aff2axcodes(image.affine)),
        spacing=tuple(round(float(step), 4) for step in image.header.get_zooms()[:3]),
        shape=tuple(int(size) for size in image.shape),
        dtype=str(image.get_data_dtype()),
    )


def resampled(image: Any, spacing: tuple[float, float, float], *, labels: bool) -> Any:
    """Return an image with this spacing in RAS orientation, interpolated linearly; labels get the nearest value.

    Raises:
        DataFileError: If the file ends early or is damaged.
        MissingExtraError: If scipy is not installed.
    """
    volume = library("nibabel").Nifti1Image
    library("scipy")
    resample = library("nibabel.processing").resample_to_output  # of three axes alone
    dtype, order = image.get_data_dtype(), 0 if labels else 1
    parts = [
        resample(volume(part, image.affine, dtype=dtype), spacing, order=order)
        for part in channels_first(values(image))
    ]
    together = np.stack([np.asanyarray(part.dataobj) for part in parts], axis=-1)
    return volume(together, parts[0].affine, dtype=dtype)


def oriented(image: Any, orientation: str) -> Any:
    """Return an image with its axes leading where told, by flipping and swapping alone."""
    orientations = library("nibabel.orientations")
    now = orientations.io_orientation(image.affine)
    wanted = orientations.axcodes2ornt(tuple(orientation))
    return image.as_reoriented(orientations.ornt_transform(now, wanted))


def _unreadable(path: Path, reason: str) -> DataFileError:
    return DataFileError(path=path, data_type=_WHAT, reason=reason)
