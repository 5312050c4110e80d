"""Tell from the names of files which family a data set is of."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from common.datasets.files import data_files
from common.datasets.formats import (
    BED,
    CSV,
    DICOM,
    EDF,
    EXCEL,
    IMAGES,
    MEDNIST,
    MNIST_IMAGES,
    NIFTI,
    PARQUET,
    VCF,
    WFDB,
)
from common.errors import DataFileError


def detected(path: Path) -> str:
    """Return the family that a file or folder looks like.

    Raises:
        DataFileError: If it cannot be read, or looks like none.
    """
    names = [PurePosixPath(file.name) for file in data_files(path)]
    suffixes = {name.suffix.lower() for name in names}
    if not path.is_dir():
        found = "tabular" if suffixes <= CSV | EXCEL | PARQUET else None
    elif any(name.name.startswith(MNIST_IMAGES) for name in names):
        found = "mnist"
    elif any(name.name.endswith((*NIFTI, *DICOM)) for name in names):
        found = "medical-folder"
    elif suffixes & (EDF | WFDB):
        found = "signals"
    elif any(name.name.endswith((*VCF, BED)) for name in names):
        found = "genomics"
    elif suffixes & IMAGES:
        classes = {name.parts[0] for name in names if name.suffix.lower() in IMAGES}
        found = "mednist" if classes <= set(MEDNIST) else "images"
    else:
        found = None
    if found is None:
        raise DataFileError(
            path=path, data_type="a data set", reason="its type is not clear; name it with --type"
        )
    return found
