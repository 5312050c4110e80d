"""Count what is in a data set: histograms of numbers, balances of classes, missing values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from pydantic import JsonValue

from common.datasets.families import family
from common.datasets.families.base import parsed
from common.datasets.formats import IMAGES
from node.views.figures import Bars, Summary

COLUMNS: Final = 40
"""Columns that are drawn."""
BINS: Final = 16
CLASSES: Final = 12
"""Classes that are drawn, the most frequent ones."""
ROWS: Final = 1_000_000
"""Rows that are counted, the first ones."""
_FEW: Final = 6
"""So many different whole numbers are taken for classes."""
_LONGEST: Final = 60


def summary(path: Path, data_type: str, options: Mapping[str, JsonValue]) -> Summary:
    """Return counts of a data set.

    Raises:
        DataError: If it cannot be read.
        MissingExtraError: If a library is not installed.
    """
    said: Any = parsed(family(data_type).options, options)
    if data_type == "tabular":
        return _of_table(path, said)
    if data_type == "medical-folder":
        return _of_subjects(path, said)
    if data_type == "mnist":
        return _of_digits(path, said)
    if data_type in ("images", "mednist", "signals"):
        return _of_files(path, said, data_type)
    return Summary(samples=0, bars=())


def _of_table(path: Path, said: Any) -> Summary:
    from common.datasets.inspection import ROW, column_names, numbered_rows, used_rows

    names = column_names(path, said)
    drawn = [name for name in names if name != said.id_column][:COLUMNS]
    rows = used_rows(numbered_rows(path, drawn, said, said.id_column), said).head(ROWS)
    bars = tuple(column(rows[name]) for name in drawn if name != ROW)
    return Summary(samples=len(rows), bars=bars, columns_left_out=max(0, len(names) - len(drawn)))


def _of_subjects(path: Path, said: Any) -> Summary:
    from common.datasets.subjects import list_subjects

    found = list_subjects(path, said)
    used = {subject: kinds for subject, kinds in found.files.items() if subject not in said.unused}
    there = Counter(modality for kinds in used.values() for modality in kinds)
    bars = [Bars(name="modality", labels=tuple(there), counts=tuple(there.values()))]
    columns: list[str] = []
    if found.rows is not None:
        rows = found.rows.filter(pl.col(found.index).is_in(list(used)))
        columns = [name for name in rows.columns if name != found.index]
        bars += [column(rows[name]) for name in columns[:COLUMNS]]
    return Summary(samples=len(used), bars=tuple(bars), columns_left_out=max(0, len(columns) - COLUMNS))


def _of_digits(path: Path, said: Any) -> Summary:
    from common.datasets.mnist import read_mnist

    _, digits = read_mnist(path)
    used = [str(digit) for row, digit in enumerate(digits) if str(row) not in said.unused]
    return Summary(samples=len(used), bars=(_classes("class", Counter(used), 0),))


def _of_files(path: Path, said: Any, data_type: str) -> Summary:
    from common.datasets.listing import list_files
    from common.datasets.signal_files import list_recordings

    known = list_recordings(path, said) if data_type == "signals" else list_files(path, said, IMAGES)
    listing = known.without(said.unused)
    return Summary(samples=len(listing.names), bars=(column(pl.Series("class", listing.labels)),))


def column(values: pl.Series) -> Bars:
    """Return the histogram of a column of numbers, or how often each class of another occurs."""
    known = values.drop_nulls()
    if values.dtype.is_float():
        known = known.drop_nans()
    missing = len(values) - len(known)
    if values.dtype.is_numeric():
        plain = known.cast(pl.Float64).to_numpy()
        plain = plain[np.isfinite(plain)]
        if len(plain) and (values.dtype.is_float() or known.n_unique() > _FEW):
            return _histogram(values.name, plain, missing)
    counts: Counter[str] = Counter()
    for value, count in known.value_counts().sort(values.name).iter_rows():
        counts[_short(str(value))] += count
    return _classes(values.name, counts, missing)


def _histogram(name: str, values: np.ndarray[Any, Any], missing: int) -> Bars:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return _classes(name, Counter({f"{low:.4g}": len(values)}), missing)
    scale = max(abs(low), abs(high))  # so that the range of very large numbers is a number, too
    counts, edges = np.histogram(values / scale, BINS, (low / scale, high / scale))
    edges *= scale
    labels = tuple(f"{edges[place]:.4g} to {edges[place + 1]:.4g}" for place in range(len(counts)))
    return Bars(name=name, labels=labels, counts=tuple(map(int, counts)), missing=missing, ordered=True)


def _classes(name: str, counts: Counter[str], missing: int) -> Bars:
    """Return how often each class occurs: all in their order if they are few, else the most frequent ones."""
    shown = list(counts.items()) if len(counts) <= CLASSES else counts.most_common(CLASSES)
    return Bars(
        name=name,
        labels=tuple(label for label, _ in shown),
        counts=tuple(count for _, count in shown),
        missing=missing,
        others=counts.total() - sum(count for _, count in shown),
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
