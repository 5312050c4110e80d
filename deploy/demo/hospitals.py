"""Prepare the four hospitals of the UCI heart-disease study the way FLamby does.

FLamby (Ogier du Terrail et al., 2022) made of this study the benchmark "Fed-Heart-Disease"; its choices are kept, so that
figures can be compared with the literature: three columns that are mostly missing are dropped, then every patient with
a missing value; two coded columns become indicators whose first value is left out; any degree of disease counts as 1.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.security.files import write_atomic

DATA: Final = Path(__file__).parent / "data"

NAMES: Final = {
    "cleveland": "Cleveland Clinic Foundation",
    "hungary": "Hungarian Institute of Cardiology, Budapest",
    "switzerland": "University Hospitals Zurich and Basel",
    "va": "V.A. Medical Center, Long Beach",
}
"""The hospitals, by the id that each has in the demo's federation."""

TARGET: Final = "target"
SPLIT: Final = "split"

_FILES: Final = {"cleveland": "cleveland", "hungary": "hungarian", "switzerland": "switzerland", "va": "va"}
_MISSING: Final = "?"

_PLAIN: Final = {
    "age": 0,
    "sex": 1,
    "resting_pressure": 3,
    "cholesterol": 4,
    "high_fasting_sugar": 5,
    "max_heart_rate": 7,
    "exercise_angina": 8,
    "st_depression": 9,
}
"""Where the columns that are taken as they are stand in a raw file, counted from 0."""
_INDICATORS: Final = {
    "pain_atypical": (2, 2.0),
    "pain_not_anginal": (2, 3.0),
    "pain_absent": (2, 4.0),
    "ecg_st_t": (6, 1.0),
    "ecg_hypertrophy": (6, 2.0),
}
"""Column and code that each indicator stands for; typical angina and a normal electrocardiogram are all zeros."""
_LABEL: Final = 13

FEATURES: Final = (*_PLAIN, *_INDICATORS)
"""The 13 inputs, in the order in which they are written."""

_USED: Final = sorted({*_PLAIN.values(), *(column for column, _ in _INDICATORS.values()), _LABEL})


@dataclass(frozen=True, slots=True)
class Hospital:
    """The prepared patients of one hospital.

    Attributes:
        features: float64, (patients, 13), not standardised; columns as in `FEATURES`.
        labels: int64, (patients,), 1 for any degree of disease.
        test: bool, (patients,), which patients are held back for testing.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_]


@cache
def hospitals() -> dict[str, Hospital]:
    """Return the four hospitals, prepared from the files that ship with the demo."""
    held_back = json.loads((DATA / "split.json").read_text(encoding="utf-8"))
    return {name: _prepared(name, held_back[name]) for name in NAMES}


def write_csv(hospital: Hospital, path: Path) -> None:
    """Write what one hospital registers: 13 features, `target`, and `split` with `train` or `test`; atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*FEATURES, TARGET, SPLIT))
    for row, label, test in zip(hospital.features, hospital.labels, hospital.test, strict=True):
        writer.writerow((*(f"{value:g}" for value in row), int(label), "test" if test else "train"))
    write_atomic(path, text.getvalue().encode())


def _prepared(name: str, held_back: list[int]) -> Hospital:
    raw = _complete_rows(DATA / f"processed.{_FILES[name]}.data")
    plain = [raw[:, column] for column in _PLAIN.values()]
    indicators = [(raw[:, column] == code).astype(np.float64) for column, code in _INDICATORS.values()]
    test = np.zeros(len(raw), dtype=np.bool_)
    test[held_back] = True
    return Hospital(
        features=np.column_stack([*plain, *indicators]),
        labels=(raw[:, _LABEL] > 0).astype(np.int64),
        test=test,
    )


def _complete_rows(path: Path) -> NDArray[np.float64]:
    """Return the patients of a raw file for whom all used columns are known; unused columns are not a number."""
    with path.open(newline="", encoding="ascii") as file:
        rows = [row for row in csv.reader(file) if row]
    complete = [row for row in rows if all(row[column] != _MISSING for column in _USED)]
    values = np.full((len(complete), _LABEL + 1), np.nan)
    for column in _USED:
        values[:, column] = [float(row[column]) for row in complete]
    return values
