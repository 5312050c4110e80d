"""Give the images of a folder to a training plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset
from common.datasets.families.base import parsed
from common.datasets.formats import IMAGES, MEDNIST
from common.datasets.image_files import Mode, pixels, prepared, read_image
from common.datasets.listing import ListingOptions, list_files
from common.datasets.split import stable_ids


class ImageFolderDataset(Dataset):
    """Images of a folder (png, jpeg, tiff), each read when it is needed, and their classes or values.

    An image becomes float32 of the shape (channels, height, width), from 0 to 1; its target the position of its class (int64), or
    the number that the registered table holds (float32). Its id follows from its name.

    Args:
        transform: Applied to each image of Pillow, in the mode and size asked for, as transforms of torchvision are; an image that it
            returns is then made an array, anything else goes to the loader as it is.
        target_transform: Applied to each target.
        classes: All classes, in the order of their numbers. Name them: a node counts only the classes that it has otherwise, and
            two nodes that lack different ones would give one number to different classes.
        mode: "L" for grey or "RGB"; none leaves each image as it is.
        size: Height and width to resample to; none leaves each image as it is.
    """

    data_types = frozenset({"images", "mednist"})

    def __init__(
        self,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        classes: Sequence[str] | None = None,
        mode: Mode | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._transform = transform
        self._target_transform = target_transform
        self._classes = classes
        self._mode = mode
        self._size = size
        self._root = Path()
        self._names: tuple[str, ...] = ()
        self._targets: NDArray[Any] = np.empty(0, np.int64)

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """List the images; none is read yet.

        Raises:
            InvalidDatasetError: If what was registered with the folder cannot be understood.
            DataFileError: If the folder or its table cannot be read.
            UnknownCategoryError: If there is a class that the plan does not name.
        """
        options = parsed(ListingOptions, parameters)
        listing = list_files(path, options, IMAGES).without(options.unused)
        self._root = path
        self._names = listing.names
        self._targets = listing.targets(self._classes)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        data: Any = prepared(read_image(self._root, self._names[index]), self._mode, self._size)
        if self._transform is not None:
            data = self._transform(data)
        target = self._targets[index]
        return (
            pixels(data) if hasattr(data, "getbands") else data,
            self._target_transform(target) if self._target_transform else target,
        )

    def sample_ids(self) -> NDArray[np.int64]:
        """Return an id for each image that follows from its name."""
        return stable_ids(self._names)

    def subjects(self) -> NDArray[np.int64]:
        """Return whose each file is: its name without folder and ending says that."""
        return stable_ids(PurePosixPath(name).stem for name in self._names)


class MedNistDataset(ImageFolderDataset):
    """The images of MedNIST in their six folders: grey, 64 x 64.

    Args:
        transform: As of `ImageFolderDataset`.
        target_transform: As of `ImageFolderDataset`.
    """

    data_types = frozenset({"mednist"})

    def __init__(
        self,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(transform, target_transform, classes=MEDNIST, mode="L", size=(64, 64))
