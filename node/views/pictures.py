"""Put pictures of the first samples on one sheet."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.extras import library
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.datasets.formats import IMAGES

SIDE: Final = 168
"""Pixels of a picture, in both directions."""
MOST: Final = 12
"""Pictures on one sheet."""
_ACROSS: Final = 4
_GAP: Final = 8

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pictures side by side: what each is of, and the PNG."""

    tiles: tuple[str, ...]
    png: bytes


def sheet(path: Path, data_type: str, options: Mapping[str, JsonValue]) -> Sheet | None:
    """Return pictures of the first samples; None if it has none to show.

    Raises:
        DataError: If they cannot be read.
        MissingExtraError: If a library is not installed.
    """
    if data_type not in _KINDS:
        return None
    tiles = list(islice(_KINDS[data_type](path, parsed(family(data_type).options, options)), MOST))
    if not tiles:
        return None
    pillow = library("PIL.Image")
    across = min(_ACROSS, len(tiles))
    down = -(-len(tiles) // across)
    step = SIDE + _GAP
    paper = pillow.new("RGBA", (across * step - _GAP, down * step - _GAP), (0, 0, 0, 0))
    for position, (_, pixels) in enumerate(tiles):
        image = pillow.fromarray(pixels)
        image.thumbnail((SIDE, SIDE))
        image = image.resize(_fitted(image.size)) if max(image.size) < SIDE else image
        left, top = (position % across) * step, (position // across) * step
        frame = pillow.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
        frame.paste(image.convert("RGB"), ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
        paper.paste(frame, (left, top))
    written = io.BytesIO()
    paper.save(written, "PNG")
    return Sheet(tuple(name for name, _ in tiles), written.getvalue())


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a small image, made as large as a tile allows."""
    factor = SIDE / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _images(path: Path, options: Any) -> Iterator[tuple[str, Pixels]]:
    """Yield images of all classes in turn."""
    from common.datasets.image_files import pixels, read_image
    from common.datasets.listing import list_files

    listing = list_files(path, options, IMAGES).without(options.unused)
    names: defaultdict[object, list[str]] = defaultdict(list)
    for name, label in zip(listing.names, listing.labels, strict=True):
        names[label].append(name)
    for name in filter(None, chain.from_iterable(zip_longest(*names.values()))):
        image = read_image(path, name)
        found = pixels(image)
        if image.mode == "F" or image.mode.startswith("I"):
            yield name, _grey(found[0])
        else:
            shades = (found.clip(0, 1) * 255).astype(np.uint8)
            yield name, shades[0] if len(shades) == 1 else shades.transpose(1, 2, 0)


def _digits(path: Path, options: Any) -> Iterator[tuple[str, Pixels]]:
    from common.datasets.mnist import read_mnist

    images, digits = read_mnist(path)
    for row, (image, digit) in enumerate(zip(images, digits, strict=True)):
        if str(row) not in options.unused:
            yield f"{row}: {digit}", image.astype(np.uint8)


def _slices(path: Path, options: Any) -> Iterator[tuple[str, Pixels]]:
    """Yield the middle slice of each volume of the first subjects."""
    from common.datasets.nifti import values
    from common.datasets.subjects import list_subjects, open_study

    found = list_subjects(path, options)
    for subject, kinds in found.files.items():
        if subject in options.unused:
            continue
        for modality, files in kinds.items():
            image = open_study(path, files)
            shape = tuple(image.shape)
            where = (slice(None), slice(None), *(slice(size // 2, size // 2 + 1) for size in shape[2:]))
            plane = values(image, where[: len(shape)])
            yield f"{subject}, {modality}", _grey(np.rot90(plane.reshape(plane.shape[:2])))


def _grey(values: NDArray[Any]) -> Pixels:
    """Return numbers as shades: the least hundredth is black, the greatest white."""
    plain = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(plain, (1, 99))
    if high <= low:
        low, high = float(plain.min()), float(plain.max())
    scaled = (plain - low) / (high - low) if high > low else np.zeros_like(plain)
    shades: Pixels = (scaled.clip(0, 1) * 255).astype(np.uint8)
    return shades


_KINDS: Final[dict[str, Callable[[Path, Any], Iterator[tuple[str, Pixels]]]]] = {
    "images": _images,
    "mednist": _images,
    "mnist": _digits,
    "medical-folder": _slices,
}
