"""Give the rows of a table to a training plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset, Rows
from common.datasets.inspection import column_names, read_columns
from common.errors import DataFileError, MissingValuesError, NonNumericColumnError, UnknownColumnError

Missing = Literal["refuse", "drop", "mean"]
Transform = Callable[[NDArray[Any]], Any]

_EPSILON: Final = 1e-9
_LABELS: Final = ("train", "test")


class TabularDataset(Dataset):
    """Rows of a csv, tsv or parquet file: some columns as input, some as target.

    Inputs are a matrix of `dtype`, one row for each sample. Targets keep int64 if all their columns hold integers or booleans,
    else they get `dtype`; a target given by name alone makes a vector, a list of targets a matrix.

    Args:
        input_columns: Names or positions (from 0), in the order that the model takes them.
        target_columns: The same for the targets; one name or position alone for a vector.
        transform: Applied to each input row; whatever it returns goes to the loader.
        target_transform: Applied to each target.
        missing: What to do about missing values: refuse the set, drop those rows, or put the mean of the column in the training part
            in their place. A missing target is never filled in.
        standardize: Whether to take the mean of each input column from it and divide by its standard deviation (ddof 1, plus
            1e-9), both of this node's training part.
        split_column: A column of `train` and `test` that says which part each row belongs to; `test_ratio` is then ignored. A
            node that registered the set with such a column decides over the plan.
        id_column: A column that says whose row it is, the patient's number for instance. Rows go to the training or the test part by it:
            all of one patient to the same, and to the same again when rows are added or put into another order. A node that
            registered the set with such a column decides over the plan.
        dtype: Of inputs, and of targets that are not whole numbers.
        target_dtype: Of targets, whatever they are.
    """

    def __init__(
        self,
        input_columns: Sequence[str | int] | str | int,
        target_columns: Sequence[str | int] | str | int,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        missing: Missing = "refuse",
        standardize: bool = False,
        split_column: str | int | None = None,
        id_column: str | int | None = None,
        dtype: str = "float32",
        target_dtype: str | None = None,
    ) -> None:
        self._input_columns = _listed(input_columns)
        self._target_columns = _listed(target_columns)
        self._vector_target = isinstance(target_columns, str | int)
        self._transform = transform
        self._target_transform = target_transform
        self._missing = missing
        self._standardize = standardize
        self._split_column = split_column
        self._id_column = id_column
        self._lasting = False
        self._scales: list[tuple[float, float]] = []
        self._dtype = np.dtype(dtype)
        self._target_dtype = np.dtype(target_dtype) if target_dtype else None
        self._frame = pl.DataFrame()
        self._columns: list[str] = []
        self._inputs: NDArray[Any] = np.empty((0, 0), self._dtype)
        self._targets: NDArray[Any] = np.empty(0, self._dtype)
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._test_rows: Rows | None = None

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read the columns that are used.

        Raises:
            DataFileGoneError: If there is no such file.
            DataFileError: If it cannot be read.
            UnknownColumnError: If it lacks a column.
            NonNumericColumnError: If a column does not hold numbers.
            MissingValuesError: If values are missing and `missing` does not provide for it.
        """
        known = column_names(path)
        inputs = [_resolved(column, known) for column in self._input_columns]
        targets = [_resolved(column, known) for column in self._target_columns]
        marks = _chosen(parameters.get("split_column"), self._split_column, known)
        persons = _chosen(parameters.get("id_column"), self._id_column, known)
        frame = read_columns(path, [*inputs, *targets, *marks])
        for column in [*inputs, *targets]:
            kind = frame.schema[column]
            if not (kind.is_numeric() or kind == pl.Boolean or kind == pl.Null):
                raise NonNumericColumnError(column=column, dtype=str(kind))
        self._refuse_missing(frame, targets if self._missing == "mean" else [*inputs, *targets])
        frame = frame.with_row_index("")
        self._lasting = bool(persons)
        if persons:
            frame = frame.with_columns(
                _hashed(read_columns(path, persons, texts=persons)[persons[0]]).alias("")
            )
        if self._missing == "drop":
            frame = frame.drop_nulls([*inputs, *targets])
        self._frame = frame.select(list(dict.fromkeys(inputs)))
        self._columns = inputs
        self._ids = frame[""].cast(pl.Int64).to_numpy()
        self._test_rows = _marked(frame[marks[0]], path) if marks else None
        self._targets = self._made_targets(frame.select(list(dict.fromkeys(targets))), targets)
        self._inputs = np.empty((0, 0), self._dtype)

    def fit(self, train: Rows) -> None:
        """Make the inputs, with means and deviations of these rows.

        Raises:
            MissingValuesError: If a column has missing values and none of these rows has a value to put in their place.
        """
        self._scales = []
        for name in self._columns:
            column = self._frame[name].cast(pl.Float64)
            known = column.gather(train).drop_nulls().to_numpy()
            if not len(known) and column.null_count():
                raise MissingValuesError(column=name, count=column.null_count(), rows=len(column))
            mean = known.mean() if len(known) else 0.0
            deviation = known.std(ddof=1) if len(known) > 1 else 0.0
            self._scales.append((float(mean), float(deviation)))
        self._make_inputs()

    def fit_as(self, other: Dataset) -> None:
        """Make the inputs with the means and deviations of another table of the same plan."""
        if isinstance(other, TabularDataset):
            self._scales = list(other._scales)  # noqa: SLF001 - of this class
            self._make_inputs()

    def _make_inputs(self) -> None:
        inputs = np.empty((len(self._frame), len(self._columns)), self._dtype)
        for position, (name, (mean, deviation)) in enumerate(zip(self._columns, self._scales, strict=True)):
            values = self._frame[name].cast(pl.Float64).fill_null(mean).to_numpy()
            if self._standardize:
                values = (values - mean) / (deviation + _EPSILON)
            inputs[:, position] = values
        self._inputs = inputs

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        data, target = self._inputs[index], self._targets[index]
        return (
            self._transform(data) if self._transform else data,
            self._target_transform(target) if self._target_transform else target,
        )

    def sample_ids(self) -> NDArray[np.int64]:
        """Return a hash of whose row each is, if there is a column that says so; else the position of each in the file."""
        return self._ids

    @property
    def lasting_ids(self) -> bool:
        """Tell whether a column says whose row each is."""
        return self._lasting

    def test_rows(self) -> Rows | None:
        """Return the rows that the split column marks for testing; none if there is no such column."""
        return self._test_rows

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return inputs and targets, unless rows have to be transformed one by one."""
        return None if self._transform or self._target_transform else (self._inputs, self._targets)

    def _made_targets(self, frame: pl.DataFrame, columns: list[str]) -> NDArray[Any]:
        whole = all(kind.is_integer() or kind == pl.Boolean for kind in frame.schema.values())
        dtype = self._target_dtype or (np.dtype("int64") if whole else self._dtype)
        matrix = np.empty((len(frame), len(columns)), dtype)
        for position, name in enumerate(columns):
            matrix[:, position] = frame[name].to_numpy()
        return matrix[:, 0].copy() if self._vector_target else matrix

    def _refuse_missing(self, frame: pl.DataFrame, columns: list[str]) -> None:
        if self._missing == "drop":
            return
        for column in columns:
            if count := frame[column].null_count():
                raise MissingValuesError(column=column, count=count, rows=len(frame))


def _listed(columns: Sequence[str | int] | str | int) -> list[str | int]:
    return [columns] if isinstance(columns, str | int) else list(columns)


def _resolved(column: str | int, known: list[str]) -> str:
    """Return the name of a column that was given by name or position."""
    if isinstance(column, int) and 0 <= column < len(known):
        return known[column]
    if isinstance(column, str) and column in known:
        return column
    raise UnknownColumnError(column=column, columns=", ".join(known))


def _chosen(registered: JsonValue, given: str | int | None, known: list[str]) -> list[str]:
    """Return the column that the node registered or else the plan names, if any."""
    column = registered if isinstance(registered, str) else given
    return [] if column is None else [_resolved(column, known)]


def _hashed(column: pl.Series) -> pl.Series:
    """Return 63 bits of the SHA-256 of each text, the same everywhere.

    Raises:
        MissingValuesError: If one is missing.
    """
    if count := column.null_count():
        raise MissingValuesError(column=column.name, count=count, rows=len(column))
    digests = [int.from_bytes(hashlib.sha256(text.strip().encode()).digest()[:8]) >> 1 for text in column]
    return pl.Series(digests, dtype=pl.Int64)


def _marked(column: pl.Series, path: Path) -> Rows:
    """Return the rows that a split column marks for testing."""
    labels = column.cast(pl.String)
    if not labels.is_in(_LABELS).fill_null(value=False).all():
        reason = f"column {column.name!r} holds something else than {' and '.join(_LABELS)}"
        raise DataFileError(path=path, data_type="a split table", reason=reason)
    return np.flatnonzero((labels == "test").to_numpy()).astype(np.int64)
