"""Give the volumes and the demographics of subjects to a training plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset
from common.datasets.families.base import parsed
from common.datasets.nifti import channels_first, grid, oriented, resampled, values
from common.datasets.split import stable_ids
from common.datasets.subjects import DEMOGRAPHICS, MedicalOptions, list_subjects, open_study
from common.errors import DataFileError, InvalidArgumentsError, UnknownColumnError

Transform = Callable[[Any], Any]
Transforms = Transform | Mapping[str, Transform] | None


class MedicalFolderDataset(Dataset):
    """Subjects of a folder `subject/modality`, with a NIfTI file or a DICOM series in each, read when it is needed.

    A volume becomes a float32 array of the shape (channels, x, y, z), and an int64 one if it is a target of whole numbers, as
    segmentations are, which resampling gives the nearest label. A file of four axes has its last one as channels, be they times,
    directions or classes; others have one channel. One modality
    by name gives its array, a list of names a dictionary of arrays; "demographics" is the subject's row of the table: a dictionary
    for its transform, and without one the float32 of its `demographics_columns`. Only subjects that have everything that is asked
    for are used. MONAI's and TorchIO's transforms take such arrays as they are.

    Args:
        data_modalities: What is learnt from.
        target_modalities: What is to be predicted.
        transform: Applied to the volume of the modality, or by name to each.
        target_transform: The same for the targets.
        joint_transform: Applied before these to the dictionary of all modalities by name, inputs and targets together, and returns
            another one: so an image and its segmentation are turned alike. MONAI's dictionary transforms are such ones.
        demographics_columns: Columns of numbers; each subject without a gap in them is used.
        orientation: Where the axes shall lead, such as "RAS"; none leaves them as they are.
        spacing: Millimetres between voxels to resample to, which turns volumes to RAS first; needs scipy.
        patch: Size of the part of a volume that makes a sample; it then has the shape (patches, channels, *patch). They lie at random
            places that depend on the subject alone, the same for all its modalities, and zeros fill what is outside. Patches of
            files that are not packed with gzip are read alone.
        patches: How many of each subject.
    """

    data_types = frozenset({"medical-folder"})

    def __init__(
        self,
        data_modalities: str | Sequence[str],
        target_modalities: str | Sequence[str],
        transform: Transforms = None,
        target_transform: Transforms = None,
        *,
        joint_transform: Transform | None = None,
        demographics_columns: Sequence[str] = (),
        orientation: str | None = None,
        spacing: tuple[float, float, float] | None = None,
        patch: tuple[int, int, int] | None = None,
        patches: int = 1,
    ) -> None:
        self._wanted = (_checked(data_modalities), _checked(target_modalities))
        self._transforms = (transform, target_transform)
        self._joint = joint_transform
        self._columns = list(demographics_columns)
        self._orientation = orientation
        self._spacing = spacing
        self._patch = patch
        self._patches = patches
        self._root = Path()
        self._files: list[Mapping[str, tuple[str, ...]]] = []
        self._rows: list[dict[str, Any]] = []
        self._ids = np.empty(0, np.int64)

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Find the subjects that have what is asked for; no volume is read yet.

        Raises:
            InvalidDatasetError: If what was registered with the folder cannot be understood.
            DataFileError: If the folder or its table cannot be read, or no subject has everything.
            UnknownColumnError: If no subject has a modality, or the table lacks a column.
        """
        options = parsed(MedicalOptions, parameters)
        found = list_subjects(path, options)
        wanted = tuple(dict.fromkeys(name for names in self._wanted for name in _listed(names)))
        for name in wanted:
            if name not in found.everything:
                raise UnknownColumnError(column=name, columns=", ".join(found.everything))
        required = found.everything if options.incomplete == "leave_out" else wanted
        rows: dict[str, dict[str, Any]] = {}
        if found.rows is not None and DEMOGRAPHICS in wanted:
            for column in self._columns:
                if column not in found.rows.columns:
                    raise UnknownColumnError(column=column, columns=", ".join(found.rows.columns))
            complete = found.rows.drop_nulls([found.index, *self._columns])
            rows = {row.pop(found.index): row for row in complete.to_dicts()}
        subjects = [
            subject
            for subject in found.files
            if subject not in options.unused
            and not found.missing(subject, required)
            and (DEMOGRAPHICS not in wanted or subject in rows)
        ]
        if not subjects:
            reason = f"no subject has all of {', '.join(wanted)}"
            raise DataFileError(path=path, data_type="a medical folder", reason=reason)
        self._root = path
        self._files = [found.files[subject] for subject in subjects]
        self._rows = [rows.get(subject, {}) for subject in subjects]
        self._ids = stable_ids(subjects)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        inputs, targets = (self._raw(index, part) for part in (0, 1))
        if self._joint is not None:
            both = self._joint({**inputs, **targets})
            inputs, targets = ({name: both[name] for name in part} for part in (inputs, targets))
        return self._made(inputs, 0), self._made(targets, 1)

    def sample_ids(self) -> NDArray[np.int64]:
        """Return an id for each subject that follows from its name."""
        return self._ids

    def subjects(self) -> NDArray[np.int64]:
        """Return the same: a sample is a subject."""
        return self._ids

    def _raw(self, index: int, part: int) -> dict[str, Any]:
        """Return the inputs (0) or the targets (1) of a subject by name, as they are before any transform."""
        found: dict[str, Any] = {}
        for name in _listed(self._wanted[part]):
            row = self._rows[index]
            if name != DEMOGRAPHICS:
                found[name] = self._volume(index, name, labels=part == 1)
            elif self._transform(part, name):
                found[name] = row
            else:
                found[name] = np.array([row[column] for column in self._columns], np.float32)
        return found

    def _made(self, found: Mapping[str, Any], part: int) -> Any:
        """Return inputs (0) or targets (1) as the plan gets them."""
        transforms = {name: self._transform(part, name) for name in found}
        made = {name: change(found[name]) if (change := transforms[name]) else found[name] for name in found}
        wanted = self._wanted[part]
        return made[wanted] if isinstance(wanted, str) else made

    def _transform(self, part: int, name: str) -> Transform | None:
        transforms = self._transforms[part]
        return transforms.get(name) if isinstance(transforms, Mapping) else transforms

    def _volume(self, index: int, modality: str, *, labels: bool) -> NDArray[Any]:
        image = open_study(self._root, self._files[index][modality])
        labels = labels and np.issubdtype(image.get_data_dtype(), np.integer) and not _scaled(image)
        dtype = np.int64 if labels else np.float32
        if self._spacing is not None:
            image = resampled(image, self._spacing, labels=labels)
        if self._orientation is not None and grid(image).orientation != self._orientation:
            image = oriented(image, self._orientation)
        if self._patch is None:
            return channels_first(values(image)).astype(dtype, copy=False)
        parts = [_cut(image, self._patch, (self._ids[index], number)) for number in range(self._patches)]
        return np.stack(parts).astype(dtype, copy=False)


def _cut(image: Any, size: tuple[int, int, int], seed: tuple[np.int64, int]) -> NDArray[Any]:
    """Return the part of a volume that a seed chooses, channels first, with zeros where the volume is too small."""
    chance = np.random.default_rng((int(seed[0]) & (2**63 - 1), seed[1])).random(len(size))
    starts = [
        int(part * (max(whole - length, 0) + 1))
        for part, whole, length in zip(chance, image.shape, size, strict=False)
    ]
    where = tuple(slice(start, start + length) for start, length in zip(starts, size, strict=True))
    found = channels_first(values(image, where))
    gaps = [(0, length - there) for there, length in zip(found.shape[1:], size, strict=True)]
    return np.pad(found, [(0, 0), *gaps])


def _checked(names: str | Sequence[str]) -> str | tuple[str, ...]:
    if not names:
        raise InvalidArgumentsError(problems="  data_modalities and target_modalities: name at least one")
    return names if isinstance(names, str) else tuple(names)


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _scaled(image: Any) -> bool:
    slope, intercept = image.header.get_slope_inter()
    return slope not in (None, 1.0) or intercept not in (None, 0.0)
