"""List the images of a data set, and read them without trusting them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.datasets.families.base import Options
from common.datasets.files import data_files, inside
from common.datasets.formats import IMAGES
from common.errors import DataFileError, UnknownColumnError

MOST_PIXELS: Final = 64 * 1024**2
"""Largest image: a small file can unpack to any size."""

_FORMATS: Final = ("PNG", "JPEG", "TIFF")
_MOST_CLASSES: Final = 2000
_WHAT: Final = "an image"

Mode = Literal["L", "RGB"]


class ImageOptions(Options):
    """Where the images of a folder have their labels."""

    table: str | None = None
    """A table in the folder that lists the images; none if each lies in a sub-folder with the name of its class."""
    file_column: str = "file"
    """The column of the table that holds paths from the folder."""
    label_column: str = "label"
    """Its column of labels: text and whole numbers are classes, other numbers are values to predict."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Images and their labels.

    Attributes:
        names: Their paths from the folder, with slashes.
        labels: The class of each, or a number to predict.
        classes: All classes in the order of their names; none if numbers are to be predicted.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...] | tuple[float, ...]
    classes: tuple[str, ...]


def list_images(root: Path, options: ImageOptions) -> Listing:
    """Return the images below a folder, without reading any.

    Raises:
        DataFileError: If it is no folder, something in it leads out of it, it holds no image, or an image lies in no class.
        UnknownColumnError: If the table lacks a column.
    """
    if not root.is_dir():
        raise DataFileError(path=root, data_type="a folder of images", reason="it is no folder")
    if options.table is not None:
        return _listed_in_table(root, inside(root, options.table), options)
    names = tuple(file.name for file in data_files(root) if PurePosixPath(file.name).suffix.lower() in IMAGES)
    labels = tuple(name.partition("/")[0] for name in names)
    if lost := next((name for name in names if "/" not in name), None):
        raise DataFileError(path=root / lost, data_type=_WHAT, reason="it is in no folder of a class")
    return Listing(names, labels, _classes(root, labels))


def _listed_in_table(root: Path, table: Path, options: ImageOptions) -> Listing:
    from common.datasets.inspection import column_names, read_columns  # polars, which folders do not need

    known = column_names(table)
    for column in (options.file_column, options.label_column):
        if column not in known:
            raise UnknownColumnError(column=column, columns=", ".join(known))
    rows = read_columns(table, [options.file_column, options.label_column])
    files, labels = rows[options.file_column].cast(str), rows[options.label_column]
    if files.null_count() or labels.null_count() or files.n_unique() < len(files):
        reason = "a row lacks its file or its label, or a file is listed twice"
        raise DataFileError(path=table, data_type="a list of images", reason=reason)
    if out := next((name for name in files if not _stays(name)), None):
        raise DataFileError(path=table, data_type="a list of images", reason=f"{out} is outside the folder")
    if labels.dtype.is_float():
        return Listing(tuple(files), tuple(labels), ())
    names = tuple(labels.cast(str))
    return Listing(tuple(files), names, _classes(root, names))


def _stays(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _classes(root: Path, labels: Sequence[str]) -> tuple[str, ...]:
    classes = tuple(sorted(set(labels)))
    if not 0 < len(classes) <= _MOST_CLASSES:
        reason = f"it has {len(classes)} classes, and 1 to {_MOST_CLASSES} are possible"
        raise DataFileError(path=root, data_type="a folder of images", reason=reason)
    return classes


def read_image(root: Path, name: str) -> Any:
    """Return an image of Pillow with its pixels loaded.

    Raises:
        DataFileError: If it is gone, is no png, jpeg or tiff, is damaged, or has more than `MOST_PIXELS` pixels.
        MissingExtraError: If Pillow is not installed.
    """
    pillow = library("PIL.Image")
    pillow.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow warns above this, and refuses above twice as many
    try:
        with pillow.open(f"{root}/{name}", formats=_FORMATS) as image:
            image.load()
            return image
    except pillow.DecompressionBombError as error:
        raise _unreadable(root, name, f"it has more than {MOST_PIXELS} pixels") from error
    except FileNotFoundError as error:
        raise _unreadable(root, name, "there is no such file") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
    ) as error:  # all of them for damaged files
        raise _unreadable(root, name, f"it is damaged, or none of {', '.join(_FORMATS)}") from error


def _unreadable(root: Path, name: str, reason: str) -> DataFileError:
    return DataFileError(path=root / name, data_type=_WHAT, reason=reason)


def prepared(image: Any, mode: Mode | None, size: tuple[int, int] | None) -> Any:
    """Return an image in a mode and of a size (height, width), resampled bilinearly."""
    if mode is not None and image.mode != mode:
        image = image.convert(mode)
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], library("PIL.Image").Resampling.BILINEAR)
    return image


def pixels(image: Any) -> NDArray[np.float32]:
    """Return float32 of the shape (channels, height, width): 8 and 16 bits become 0 to 1, other numbers stay.

    What is neither grey nor RGB becomes RGB; black and white becomes grey.
    """
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "F", "I") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")
    values = np.asarray(image)
    scaled = values.astype(np.float32)
    if values.dtype == np.uint8:
        scaled /= 255
    elif values.dtype == np.uint16:
        scaled /= 65535
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)) if scaled.ndim == 3 else scaled[None]
