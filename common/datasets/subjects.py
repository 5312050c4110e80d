"""Find the subjects of a medical folder, their modalities and their demographics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from common.datasets.dicom import open_series
from common.datasets.families.base import Options
from common.datasets.files import data_files, inside
from common.datasets.formats import DICOM, NIFTI
from common.datasets.nifti import open_volume
from common.errors import DataFileError, UnknownColumnError

if TYPE_CHECKING:
    import polars as pl

DEMOGRAPHICS: Final = "demographics"
"""The modality that stands for a subject's row of the demographics table."""

_WHAT: Final = "a medical folder"


class MedicalOptions(Options):
    """How a hospital keeps its studies: `subject/modality/one file`, or all files of a series, beside a table of subjects."""

    modalities: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The names that plans use, and what this hospital calls each: names of folders, or patterns below the subject's folder such
    as `anat/*_T1w.nii.gz`. If it is empty, each folder is a modality of its own name."""
    demographics: str | None = None
    """A table in the folder with a row for each subject."""
    index_column: str | None = None
    """Its column of subjects, which are names of folders; the first one if not given."""
    incomplete: Literal["keep", "leave_out", "refuse"] = "keep"
    """What to do about subjects that lack a modality or a row: keep them for plans that do not need what is missing, leave them
    out, or refuse the set."""
    identified: Literal["refuse", "allow"] = "refuse"
    """What to do if DICOM files hold what identifies a patient."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """What there is of each subject.

    Attributes:
        files: Paths from the folder, by subject and modality.
        modalities: All modalities, in the order of their names.
        rows: The demographics table.
        index: Its column of subjects.
        listed: The subjects in it; none if there is no table.
    """

    files: Mapping[str, Mapping[str, tuple[str, ...]]]
    modalities: tuple[str, ...]
    rows: pl.DataFrame | None
    index: str
    listed: frozenset[str] | None

    def missing(self, subject: str, wanted: tuple[str, ...]) -> list[str]:
        """Return which of these modalities a subject lacks."""
        found = self.files[subject]
        return [
            name
            for name in wanted
            if (name != DEMOGRAPHICS and name not in found)
            or (name == DEMOGRAPHICS and (self.listed is None or subject not in self.listed))
        ]

    @property
    def everything(self) -> tuple[str, ...]:
        """Return the modalities, and the demographics if there are any."""
        return self.modalities if self.listed is None else (*self.modalities, DEMOGRAPHICS)


def list_subjects(root: Path, options: MedicalOptions) -> Subjects:
    """Return the subjects of a folder, in the order of their names, without reading a volume.

    Raises:
        DataFileError: If it is no folder, something in it leads out of it, or there is no subject with a volume.
        UnknownColumnError: If the table lacks the column of subjects.
    """
    if not root.is_dir():
        raise DataFileError(path=root, data_type=_WHAT, reason="it is no folder")
    found: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in data_files(root):
        subject, _, rest = file.name.partition("/")
        if rest.endswith((*NIFTI, *DICOM)) and (modality := _modality(rest, options.modalities)) is not None:
            found[subject][modality].append(file.name)
    if not found:
        raise DataFileError(
            path=root, data_type=_WHAT, reason="there is no subject/modality with a volume in it"
        )
    rows, index, listed = _demographics(root, options)
    return Subjects(
        files={
            subject: {modality: tuple(files) for modality, files in kinds.items()}
            for subject, kinds in found.items()
        },
        modalities=tuple(sorted({modality for kinds in found.values() for modality in kinds})),
        rows=rows,
        index=index,
        listed=listed,
    )


def open_study(root: Path, files: Sequence[str]) -> Any:
    """Return the volume in one NIfTI file or in the DICOM files of one series, as an image of nibabel.

    Raises:
        DataFileError: If it cannot be read, or there are several NIfTI files.
        MissingExtraError: If the library for it is not installed.
    """
    if all(name.endswith(DICOM) for name in files):
        return open_series([root / name for name in files])
    if len(files) != 1:
        reason = f"it has {len(files)} files, and one was expected"
        raise DataFileError(path=(root / files[0]).parent, data_type=_WHAT, reason=reason)
    return open_volume(root / files[0])


def _modality(rest: str, modalities: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the modality of a file, given its path below the subject; none if it is of none."""
    folder, _, name = rest.partition("/")
    if not modalities:
        return folder if name and "/" not in name else None
    for modality, places in modalities.items():
        for place in places:
            if fnmatchcase(rest, place) if "/" in place else (folder == place and "/" not in name):
                return modality
    return None


def _demographics(
    root: Path, options: MedicalOptions
) -> tuple[pl.DataFrame | None, str, frozenset[str] | None]:
    """Return the demographics table, its column of subjects, and the subjects in it."""
    if options.demographics is None:
        return None, "", None
    from common.datasets.inspection import column_names, read_columns  # polars, which volumes do not need

    table = inside(root, options.demographics)
    known = column_names(table)
    index = known[0] if options.index_column is None else options.index_column
    if index not in known:
        raise UnknownColumnError(column=index, columns=", ".join(known))
    rows = read_columns(table, known)
    names = rows[index].cast(str)
    if names.null_count() or names.n_unique() < len(names):
        reason = f"column {index!r} has gaps, or a subject twice"
        raise DataFileError(path=table, data_type="demographics", reason=reason)
    return rows.with_columns(names), index, frozenset(names)
