"""Import the library of a field when it is needed, and no sooner: a csv node has none of them."""

from __future__ import annotations

import importlib
from typing import Any, Final

from common.errors import MissingExtraError

_EXTRAS: Final = {
    "PIL": ("images", "pillow", "images"),
    "openpyxl": ("Excel files", "openpyxl", "excel"),
    "nibabel": ("NIfTI files", "nibabel", "medical"),
    "pydicom": ("DICOM files", "pydicom", "dicom"),
    "pyedflib": ("EDF files", "pyedflib", "signals"),
    "cyvcf2": ("VCF files", "cyvcf2", "genomics"),
    "bed_reader": ("PLINK files", "bed-reader", "genomics"),
    "wfdb": ("WFDB files", "wfdb", "wfdb"),
    "scipy": ("resampling", "scipy", "medical"),
}
"""What needs a library, in which package it comes, and which extra installs it."""


def library(name: str) -> Any:
    """Return a module of an optional package.

    Raises:
        MissingExtraError: If it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        feature, package, extra = _EXTRAS[name.partition(".")[0]]
        raise MissingExtraError(feature=feature, package=package, extra=extra) from error
