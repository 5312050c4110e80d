"""Read DICOM series as volumes, and find what in them identifies a patient."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.datasets.extras import library
from common.datasets.nifti import MOST_VOXELS
from common.errors import DataFileError

IDENTIFYING: Final = (
    *(
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientBirthTime",
        "PatientAddress",
        "PatientTelephoneNumbers",
    ),
    *(
        "OtherPatientIDs",
        "OtherPatientNames",
        "PatientBirthName",
        "PatientMotherBirthName",
        "IssuerOfPatientID",
    ),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord"),
    *(
        "InstitutionName",
        "InstitutionAddress",
        "AccessionNumber",
        "MedicalRecordLocator",
        "ResponsiblePerson",
    ),
)
"""Keywords of elements that the basic profile of DICOM PS3.15 removes because they lead to a person."""

_PSEUDONYMS: Final = frozenset({"PatientName", "PatientID"})
"""They may hold a pseudonym, if the file says that the identity was removed."""

_MOST_UNEVEN: Final = 0.01
"""Share by which the distance of two slices may differ from the others."""

_WHAT: Final = "a DICOM series"


def identifying(path: Path) -> tuple[str, ...]:
    """Return the keywords of elements in a file that identify a patient, without their values.

    Elements of `IDENTIFYING` that are not empty count; name and id do not where PatientIdentityRemoved is YES. So do pixels that
    the file says have writing burnt in.

    Raises:
        DataFileError: If it cannot be read.
        MissingExtraError: If pydicom is not installed.
    """
    header = _read(path, pixels=False)
    removed = str(header.get("PatientIdentityRemoved", "")).upper() == "YES"
    found = [
        keyword
        for keyword in IDENTIFYING
        if str(header.get(keyword, "") or "").strip() and not (removed and keyword in _PSEUDONYMS)
    ]
    if str(header.get("BurnedInAnnotation", "")).upper() == "YES":
        found.append("BurnedInAnnotation")
    return tuple(found)


def open_series(paths: Sequence[Path]) -> Any:
    """Return the slices of one series as an image of nibabel, in whatever order the files are.

    Raises:
        DataFileError: If a file is damaged, has no pixels, several frames or a packing that nothing here reads, if they are not of
            one series and size, or if slices are missing.
        MissingExtraError: If pydicom or nibabel is not installed.
    """
    nibabel = library("nibabel")
    headers = [(path, _read(path, pixels=False)) for path in paths]
    first, one = headers[0]
    kinds = {
        (str(header.get("SeriesInstanceUID")), header.get("Rows"), header.get("Columns"))
        for _, header in headers
    }
    if len(kinds) != 1:
        raise _unreadable(first.parent, "its files are not slices of one series")
    if not 0 < (one.get("Rows") or 0) * (one.get("Columns") or 0) * len(paths) <= MOST_VOXELS:
        raise _unreadable(first, f"it has no voxels, or more than {MOST_VOXELS}")
    if any(int(header.get("NumberOfFrames") or 1) != 1 for _, header in headers):
        raise _unreadable(first, "it has several frames in one file")
    try:
        axes = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
        places = np.array([header.ImagePositionPatient for _, header in headers], float)
        steps = np.array(one.PixelSpacing, float)
    except (AttributeError, TypeError, ValueError) as error:
        raise _unreadable(first, "it does not say where its slices lie") from error
    normal = np.cross(axes[0], axes[1])
    order = np.argsort(places @ normal)
    affine = _affine(first, one, axes, steps, places[order], normal)
    slices = [_pixels(headers[number][0]) for number in order]
    return nibabel.Nifti1Image(np.stack(slices, axis=-1), affine)


def _affine(
    path: Path,
    header: Any,
    axes: NDArray[np.float64],
    steps: NDArray[np.float64],
    places: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return where voxels lie; DICOM counts to the left and to the back, NIfTI to the right and to the front."""
    if len(places) > 1:
        gaps = np.diff(places @ normal)
        if gaps.min() <= 0 or gaps.max() - gaps.min() > _MOST_UNEVEN * gaps.max():
            raise _unreadable(path.parent, "slices are missing, or lie in the same place")
        between = (places[-1] - places[0]) / (len(places) - 1)
    else:
        between = normal * float(header.get("SliceThickness") or 1.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = (
        axes[0] * steps[1],
        axes[1] * steps[0],
        between,
        places[0],
    )
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _pixels(path: Path) -> NDArray[Any]:
    """Return the values of one slice as (column, row), scaled as the file says."""
    header = _read(path, pixels=True)
    try:
        raw: NDArray[Any] = header.pixel_array
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        # all that pydicom raises for pixels that are missing, damaged, or packed as no decoder here knows (NotImplementedError,
        # which is a RuntimeError)
        raise _unreadable(path, "it has no pixels, or packs them in a way that is not supported") from error
    if raw.ndim != 2:
        raise _unreadable(path, "its pixels have colours, and one number each was expected")
    scaled = raw if (slope, intercept) == (1, 0) else (raw * slope + intercept).astype(np.float32)
    return scaled.T


def _read(path: Path, *, pixels: bool) -> Any:
    pydicom = library("pydicom")
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError, KeyError, struct.error) as error:
        raise _unreadable(path, "it is damaged, or no DICOM file") from error


def _unreadable(path: Path, reason: str) -> DataFileError:
    return DataFileError(path=path, data_type=_WHAT, reason=reason)
