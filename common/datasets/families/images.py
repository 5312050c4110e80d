"""Look into folders of images, and images that a table lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.families.base import Inspection, each_readable
from common.datasets.formats import IMAGES
from common.datasets.image_files import read_image
from common.datasets.listing import ListingOptions, list_files
from common.errors import DataFileError
from common.messages import Column


@dataclass(frozen=True, slots=True)
class ImageFamily:
    """Images below one folder.

    Attributes:
        options: What can be said about them.
        classes: The classes that they must have; any if none.
    """

    options: type[ListingOptions] = ListingOptions
    classes: tuple[str, ...] = ()

    def inspect(self, path: Path, options: ListingOptions) -> Inspection:
        """Read every image once.

        Raises:
            DataFileError: If it is no folder of images, or some are broken and the rule refuses that.
            UnknownColumnError: If the table lacks a column.
            MissingExtraError: If Pillow is not installed.
        """
        listing = list_files(path, options, IMAGES)
        if self.classes and not set(listing.classes) <= set(self.classes):
            reason = (
                f"its classes are {', '.join(listing.classes)}, and not those of {', '.join(self.classes)}"
            )
            raise DataFileError(path=path, data_type="such a folder", reason=reason)
        looks, broken = each_readable(
            listing.names, lambda name: _look(path, name), path, options, "a folder of images"
        )
        kinds = Counter(looks.values())
        shape: tuple[int, ...] = (len(looks),)
        if len(kinds) == 1:
            _, bands, height, width = next(iter(kinds))
            shape = (len(looks), height, width, bands)
        return Inspection(
            samples=len(looks),
            shape=shape,
            columns=(
                Column(name="image", dtype=_described(kinds), unit=options.units.get("image", "")),
                Column(
                    name=options.label_column if options.table else "class",
                    dtype="Category" if listing.classes else "Float64",
                    unit=options.units.get(options.label_column, ""),
                ),
            ),
            classes=listing.classes,
            broken=broken,
            left_out=len(listing.names) - len(looks) - len(broken),
        )

    def preview(self, path: Path, options: ListingOptions, count: int) -> list[dict[str, JsonValue]]:
        """Return name, label, size and mode of the first images.

        Raises:
            DataFileError: If they cannot be read.
        """
        listing = list_files(path, options, IMAGES).without(options.unused)
        labels: list[JsonValue] = [*listing.labels[:count]]
        rows: list[dict[str, JsonValue]] = []
        for name, label in zip(listing.names[:count], labels, strict=True):
            image = read_image(path, name)
            rows.append(
                {"file": name, "label": label, "mode": image.mode, "size": f"{image.height} x {image.width}"}
            )
        return rows


def _look(path: Path, name: str) -> tuple[str, int, int, int]:
    image = read_image(path, name)
    return image.mode, len(image.getbands()), image.height, image.width


def _described(kinds: Counter[tuple[str, int, int, int]]) -> str:
    modes = "/".join(sorted({mode for mode, *_ in kinds}))
    sizes = {(height, width) for _, _, height, width in kinds}
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        return f"image {modes} {height}x{width}"
    return f"image {modes} of {len(sizes)} sizes"


FAMILY: Final = ImageFamily()
