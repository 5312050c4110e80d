"""Read images without trusting them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.errors import DataFileError

MOST_PIXELS: Final = 64 * 1024**2
"""Largest image: a small file can unpack to any size."""

_FORMATS: Final = ("PNG", "JPEG", "TIFF")
_WHAT: Final = "an image"

Mode = Literal["L", "RGB"]


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
