"""Look into folders of subjects with volumes of several modalities."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.dicom import identifying
from common.datasets.families.base import Inspection, each_readable
from common.datasets.formats import DICOM
from common.datasets.nifti import Grid, grid, values
from common.datasets.subjects import DEMOGRAPHICS, MedicalOptions, Subjects, list_subjects, open_study
from common.errors import DataFileError, IdentifiedPatientsError
from common.messages import Column

_WHAT: Final = "a medical folder"


@dataclass(frozen=True, slots=True)
class MedicalFamily:
    """Subjects below one folder."""

    options: type[MedicalOptions] = MedicalOptions

    def inspect(self, path: Path, options: MedicalOptions) -> Inspection:
        """Read every volume once.

        Raises:
            DataFileError: If it is no such folder, if studies are broken or incomplete and the rule refuses that.
            IdentifiedPatientsError: If DICOM files hold what identifies a patient and the rule refuses that.
            UnknownColumnError: If the demographics lack the column of subjects.
            MissingExtraError: If nibabel is not installed.
        """
        found = list_subjects(path, options)
        lacking = [subject for subject in found.files if found.missing(subject, found.everything)]
        if lacking and options.incomplete == "refuse":
            what = ", ".join(found.missing(lacking[0], found.everything))
            reason = f"{len(lacking)} subjects are incomplete: {lacking[0]} lacks {what}"
            raise DataFileError(path=path, data_type=_WHAT, reason=reason)
        if options.identified == "refuse":
            _refuse_identified(path, found)
        dropped = set(lacking) if options.incomplete == "leave_out" else set()
        names = [subject for subject in found.files if subject not in dropped]
        grids, broken = each_readable(names, lambda name: _grids(path, found, name), path, options, _WHAT)
        return Inspection(
            samples=len(grids),
            shape=(len(grids),),
            columns=(*_volume_columns(found, grids, options), *_table_columns(found, grids, options)),
            broken=broken,
            left_out=len(found.files) - len(grids) - len(broken),
            complete=len(found.files) - len(lacking),
        )

    def preview(self, path: Path, options: MedicalOptions, count: int) -> list[dict[str, JsonValue]]:
        """Return the first subjects: the grid of each modality.

        Raises:
            DataFileError: If they cannot be read.
        """
        found = list_subjects(path, options)
        return [
            {
                "subject": subject,
                **{name: _described(one) for name, one in _grids(path, found, subject).items()},
            }
            for subject in [name for name in found.files if name not in options.unused][:count]
        ]


def _refuse_identified(path: Path, found: Subjects) -> None:
    """Raise if DICOM files name their patients; files that cannot be read are the matter of others."""
    keywords: Counter[str] = Counter()
    files = [name for kinds in found.files.values() for names in kinds.values() for name in names]
    for name in files:
        if name.endswith(DICOM):
            with contextlib.suppress(DataFileError):
                keywords.update(identifying(path / name))
    if keywords:
        raise IdentifiedPatientsError(
            path=path, count=max(keywords.values()), tags=", ".join(sorted(keywords))
        )


def _grids(path: Path, found: Subjects, subject: str) -> dict[str, Grid]:
    """Return the grid of each modality of a subject, after reading its volumes."""
    grids = {}
    for modality, files in found.files[subject].items():
        image = open_study(path, files)
        values(image)
        grids[modality] = grid(image)
    return grids


def _volume_columns(
    found: Subjects, grids: dict[str, dict[str, Grid]], options: MedicalOptions
) -> list[Column]:
    columns = []
    for modality in found.modalities:
        kinds = Counter(one[modality] for one in grids.values() if modality in one)
        what = _described(next(iter(kinds))) if len(kinds) == 1 else f"volumes on {len(kinds)} grids"
        missing = len(grids) - kinds.total()
        unit = options.units.get(modality, "")
        columns.append(Column(name=modality, dtype=what, missing=missing, unit=unit))
    return columns


def _table_columns(
    found: Subjects, grids: dict[str, dict[str, Grid]], options: MedicalOptions
) -> list[Column]:
    if found.rows is None:
        return []
    import polars as pl

    rows = found.rows.filter(pl.col(found.index).is_in(list(grids)))
    absent = len(grids) - len(rows)
    return [
        Column(
            name=f"{DEMOGRAPHICS}.{name}",
            dtype=str(kind),
            missing=rows[name].null_count() + absent,
            unit=options.units.get(name, ""),
        )
        for name, kind in rows.schema.items()
        if name != found.index
    ]


def _described(one: Grid) -> str:
    shape, spacing = "x".join(map(str, one.shape)), "x".join(f"{step:g}" for step in one.spacing)
    return f"{one.dtype} {shape} {one.orientation} {spacing} mm"


FAMILY: Final = MedicalFamily()
