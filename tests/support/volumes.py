"""Write small medical folders with nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np


def write_volume(path: Path, values: np.ndarray, *, spacing=(1.0, 1.0, 1.0), flip: bool = False) -> Path:
    """Write a NIfTI file, its first axis to the left instead of right if it is flipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[0] if flip else spacing[0], spacing[1], spacing[2], 1.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def write_folder(root: Path, subjects: int = 4, *, side: int = 4, suffix: str = ".nii.gz") -> Path:
    """Write subjects sub-1, ... with a T1 filled with the number of the subject, a label and a row of demographics."""
    lines = ["subject\tage\tsex"]
    for number in range(1, subjects + 1):
        subject = root / f"sub-{number}"
        write_volume(subject / "T1" / f"t1{suffix}", np.full((side,) * 3, number, np.float32))
        label = np.zeros((side,) * 3, np.uint8)
        label[: side // 2] = 1
        write_volume(subject / "label" / f"mask{suffix}", label)
        lines.append(f"sub-{number}\t{40 + number}\t{'FM'[number % 2]}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    return root
