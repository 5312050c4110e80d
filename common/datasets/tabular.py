"""Give the rows of a table to a training plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset, Rows
from common.datasets.columns import CategoryColumn, Learned, Missing, Moments, NumberColumn, codes
from common.datasets.families.base import parsed
from common.datasets.inspection import PERSON, ROW, TableOptions, column_names, numbered_rows, used_rows
from common.datasets.split import stable_ids
from common.errors import DataFileError, MissingValuesError, UnknownColumnError, UnknownMomentsError
from common.messages import ColumnMoments

Transform = Callable[[NDArray[Any]], Any]
ColumnKey = str | int

_LABELS: Final = ("train", "test")


class TabularDataset(Dataset):
    """Rows of a csv, tsv, parquet or Excel file: some columns as input, some as target.

    Inputs are a matrix of `dtype`, one row for each sample; `features` names its columns. Targets keep int64 if all their columns
    hold integers, booleans or categories, else they get `dtype`; a target given by name alone makes a vector, a list of targets a
    matrix.

    Args:
        input_columns: Names or positions (from 0), in the order that the model takes them.
        target_columns: The same for the targets; one name or position alone for a vector.
        transform: Applied to each input row; whatever it returns goes to the loader.
        target_transform: Applied to each target.
        missing: What to do about missing values, for all columns or by column (others refuse): "refuse" the set, "drop" those rows,
            put the "mean" or "median" of the column in the training part in their place, or a number; "indicator" puts the mean
            and adds an input, after all others, that is 1 where the value was missing. A missing target is dropped or refused,
            never filled in.
        categories: Columns of categories, and all categories that may occur in each, so that all nodes agree. An input becomes one
            input of 0 and 1 for each category; a target becomes the position of its category.
        standardize: Whether to take the mean of each input column of numbers from it and divide by its standard deviation (ddof 1,
            plus 1e-9), both of this node's training part; or the columns to be standardised with given (mean, deviation), or like
            the others (True). With the training argument `moments="federation"` these means and deviations, and the means that
            fill gaps, are those of the training parts of all nodes together; medians stay those of the node.
        split_column: A column of `train` and `test` that says which part each row belongs to; `test_ratio` is then ignored. A
            node that registered the set with such a column decides over the plan.
        id_column: A column that says whose row it is, the patient's number for instance. Rows go to the training or the test part by it:
            all of one patient to the same, and to the same again when rows are added or put into another order. A node that
            registered the set with such a column decides over the plan.
        dtype: Of inputs, and of targets that are not whole numbers.
        target_dtype: Of targets, whatever they are.
    """

    data_types = frozenset({"tabular"})

    def __init__(
        self,
        input_columns: Sequence[ColumnKey] | ColumnKey,
        target_columns: Sequence[ColumnKey] | ColumnKey,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        missing: Missing | Mapping[ColumnKey, Missing] = "refuse",
        categories: Mapping[ColumnKey, Sequence[str]] | None = None,
        standardize: bool | Mapping[ColumnKey, bool | Moments] = False,
        split_column: ColumnKey | None = None,
        id_column: ColumnKey | None = None,
        dtype: str = "float32",
        target_dtype: str | None = None,
    ) -> None:
        self._input_columns = _listed(input_columns)
        self._target_columns = _listed(target_columns)
        self._vector_target = isinstance(target_columns, str | int)
        self._transform = transform
        self._target_transform = target_transform
        self._missing = missing
        self._categories = categories or {}
        self._standardize = standardize
        self._split_column = split_column
        self._id_column = id_column
        self._lasting = False
        self._learned: list[Learned] = []
        self._dtype = np.dtype(dtype)
        self._target_dtype = np.dtype(target_dtype) if target_dtype else None
        self._frame = pl.DataFrame()
        self._columns: list[NumberColumn | CategoryColumn] = []
        self._inputs: NDArray[Any] = np.empty((0, 0), self._dtype)
        self._targets: NDArray[Any] = np.empty(0, self._dtype)
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._test_rows: Rows | None = None

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read the columns that are used.

        Raises:
            InvalidDatasetError: If what was registered with the file cannot be understood.
            DataFileGoneError: If there is no such file.
            DataFileError: If it cannot be read.
            UnknownColumnError: If it lacks a column.
            NonNumericColumnError: If a column does not hold numbers, and is not among the categories.
            UnknownCategoryError: If a category occurs that the plan does not name.
            MissingValuesError: If values are missing and `missing` does not provide for it.
        """
        self.read(path, parsed(TableOptions, parameters))

    def read(self, path: Path, options: TableOptions, people: Collection[str] | None = None) -> None:
        """Read the columns that are used, of the rows of some people alone if they are given; raises what `bind` raises.

        Args:
            path: The table.
            options: How it is to be read; they must name the column of ids if there are people.
            people: Whose rows are used, as `common.datasets.inspection.numbered_rows` writes ids.
        """
        known = column_names(path, options)
        inputs = [_resolved(column, known) for column in self._input_columns]
        targets = [_resolved(column, known) for column in self._target_columns]
        split = options.split_column if options.split_column is not None else self._split_column
        marks = [] if split is None else [_resolved(split, known)]
        person = options.id_column if options.id_column is not None else self._id_column
        person = None if person is None else _resolved(person, known)
        rules = self._rules(known, {*inputs, *targets})
        categories = {_resolved(key, known): tuple(labels) for key, labels in self._categories.items()}
        self._columns = self._made_columns(inputs, rules, categories, known)

        frame = used_rows(numbered_rows(path, [*inputs, *targets, *marks], options, person), options)
        if people is not None:
            frame = frame.filter(pl.col(PERSON).is_in(list(people)))
        for column in self._columns:
            column.check(frame[column.name])
        for name in targets:
            if name not in categories:
                NumberColumn(name, "refuse", standardize=False).check(frame[name])
        _refuse_missing(frame, [name for name in inputs if rules[name] == "refuse"])
        _refuse_missing(frame, [name for name in targets if rules[name] != "drop"])
        if dropping := [name for name in {*inputs, *targets} if rules[name] == "drop"]:
            frame = frame.drop_nulls(dropping)

        self._frame = frame.select(list(dict.fromkeys(inputs)))
        self._lasting = person is not None
        self._ids = (
            stable_ids(frame[PERSON].to_list()) if self._lasting else frame[ROW].cast(pl.Int64).to_numpy()
        )
        self._test_rows = _marked(frame[marks[0]], path) if marks else None
        self._targets = self._made_targets(frame, targets, categories)
        self._inputs = np.empty((0, 0), self._dtype)

    @property
    def features(self) -> list[str]:
        """Return the name of each input, once the set is bound to a file."""
        added = [f"{column.name} is missing" for column in self._columns if column.missing == "indicator"]
        return [name for column in self._columns for name in column.features] + added

    def fit(self, train: Rows) -> None:
        """Make the inputs, with means, medians and deviations of these rows.

        Raises:
            MissingValuesError: If a column has missing values and none of these rows has a value to put in their place.
        """
        self._learned = [column.learn(self._frame[column.name], train) for column in self._columns]
        self._make_inputs()

    def moments(self, train: Rows) -> tuple[ColumnMoments, ...]:
        """Return the moments of each input that is standardised, or filled with a mean, by its own; missing targets play no part.

        Raises:
            NonNumericColumnError: If a value is not finite.
        """
        return tuple(
            column.measure(self._frame[column.name], train).model_copy(update={"name": key})
            for key, column in self._measured().items()
        )

    def fit_with(self, train: Rows, moments: Mapping[str, ColumnMoments]) -> None:
        """Make the inputs with means and deviations of the whole federation, and medians of these rows.

        Raises:
            UnknownMomentsError: If those of a column are not among them.
            MissingValuesError: If a column has missing values and there is nothing to put in their place.
        """
        given = {}
        for key, column in self._measured().items():
            if key not in moments:
                raise UnknownMomentsError(column=key, columns=", ".join(sorted(moments)))
            given[column.name] = moments[key]
        self._learned = [
            column.learn(self._frame[column.name], train, given.get(column.name)) for column in self._columns
        ]
        self._make_inputs()

    def _measured(self) -> dict[str, NumberColumn]:
        """Return the columns that need moments, as the plan names them: names may differ where positions do not."""
        pairs = zip(map(str, self._input_columns), self._columns, strict=True)
        return {key: one for key, one in pairs if isinstance(one, NumberColumn) and one.is_measured}

    def fit_as(self, other: Dataset) -> None:
        """Make the inputs with what another table of the same plan learned."""
        if isinstance(other, TabularDataset):
            self._learned = list(other._learned)  # noqa: SLF001 - of this class
            self._make_inputs()

    def _make_inputs(self) -> None:
        inputs = np.empty((len(self), len(self.features)), self._dtype)
        start = 0
        for column, learned in zip(self._columns, self._learned, strict=True):
            end = start + len(column.features)
            column.fill(self._frame[column.name], learned, inputs[:, start:end])
            start = end
        for column in self._columns:
            if column.missing == "indicator":
                inputs[:, start] = self._frame[column.name].is_null().to_numpy()
                start += 1
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

    def _rules(self, known: list[str], used: set[str]) -> dict[str, Missing]:
        """Return what to do about missing values of each column that is used."""
        if isinstance(self._missing, Mapping):
            named = {_resolved(key, known): rule for key, rule in self._missing.items()}
            return {name: named.get(name, "refuse") for name in used}
        return dict.fromkeys(used, self._missing)

    def _made_columns(
        self,
        inputs: list[str],
        rules: Mapping[str, Missing],
        categories: Mapping[str, tuple[str, ...]],
        known: list[str],
    ) -> list[NumberColumn | CategoryColumn]:
        moments: dict[str, bool | Moments] = {}
        if isinstance(self._standardize, Mapping):
            moments = {_resolved(key, known): given for key, given in self._standardize.items()}
        otherwise = self._standardize is True
        return [
            CategoryColumn(name, rules[name], categories[name])
            if name in categories
            else NumberColumn(name, rules[name], moments.get(name, otherwise))
            for name in inputs
        ]

    def _made_targets(
        self, frame: pl.DataFrame, columns: list[str], categories: Mapping[str, Sequence[str]]
    ) -> NDArray[Any]:
        kinds = [frame.schema[name] for name in columns if name not in categories]
        whole = all(kind.is_integer() or kind == pl.Boolean for kind in kinds)
        dtype = self._target_dtype or (np.dtype("int64") if whole else self._dtype)
        matrix = np.empty((len(frame), len(columns)), dtype)
        for position, name in enumerate(columns):
            values = codes(frame[name], categories[name]) if name in categories else frame[name].to_numpy()
            matrix[:, position] = values
        return matrix[:, 0].copy() if self._vector_target else matrix


def _refuse_missing(frame: pl.DataFrame, columns: list[str]) -> None:
    for column in columns:
        if count := frame[column].null_count():
            raise MissingValuesError(column=column, count=count, rows=len(frame))


def _listed(columns: Sequence[ColumnKey] | ColumnKey) -> list[ColumnKey]:
    return [columns] if isinstance(columns, str | int) else list(columns)


def _resolved(column: ColumnKey, known: list[str]) -> str:
    """Return the name of a column that was given by name or position."""
    if isinstance(column, int) and 0 <= column < len(known):
        return known[column]
    if isinstance(column, str) and column in known:
        return column
    raise UnknownColumnError(column=column, columns=", ".join(known))


def _marked(column: pl.Series, path: Path) -> Rows:
    """Return the rows that a split column marks for testing."""
    labels = column.cast(pl.String)
    if not labels.is_in(_LABELS).fill_null(value=False).all():
        reason = f"column {column.name!r} holds something else than {' and '.join(_LABELS)}"
        raise DataFileError(path=path, data_type="a split table", reason=reason)
    return np.flatnonzero((labels == "test").to_numpy()).astype(np.int64)
