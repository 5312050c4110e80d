"""Make numbers of the columns of a table: fill gaps, standardise, and encode categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.datasets.base import Rows
from common.errors import MissingValuesError, NonNumericColumnError, UnknownCategoryError
from common.messages import ColumnMoments

Missing = Literal["refuse", "drop", "mean", "median", "indicator"] | float
Moments = tuple[float, float]

_EPSILON: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Learned:
    """What the training part tells about a column: what takes the place of a missing value, mean and standard deviation."""

    filler: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of numbers and how it becomes an input.

    Attributes:
        name: Its name.
        missing: What takes the place of missing values.
        standardize: Whether to subtract the mean and divide by the standard deviation (ddof 1) of the training part, or by the
            given mean and deviation; 1e-9 is added to either deviation.
    """

    name: str
    missing: Missing
    standardize: bool | Moments

    @property
    def features(self) -> list[str]:
        """Return the names of the inputs that it makes."""
        return [self.name]

    def check(self, column: pl.Series) -> None:
        """Make sure that it can be used.

        Raises:
            NonNumericColumnError: If it does not hold numbers.
        """
        kind = column.dtype
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise NonNumericColumnError(column=self.name, dtype=str(kind))

    @property
    def is_measured(self) -> bool:
        """Tell whether it is filled or standardised with moments that nobody has given."""
        return self.standardize is True or self.missing in ("mean", "indicator")

    def measure(self, column: pl.Series, train: Rows) -> ColumnMoments:
        """Return the moments of the training rows.

        Raises:
            NonNumericColumnError: If a value is not finite, or too large to be squared.
        """
        known = _known(column, train)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(known.mean()) if len(known) else 0.0
            spread = float(np.square(known - mean).sum())
        if not math.isfinite(mean + spread):
            raise NonNumericColumnError(
                column=self.name, dtype=f"{column.dtype} with values that are not finite"
            )
        return ColumnMoments(name=self.name, count=len(known), mean=mean, spread=spread)

    def learn(self, column: pl.Series, train: Rows, given: ColumnMoments | None = None) -> Learned:
        """Return what the training rows tell, or, as far as that is the moments given, the whole federation.

        Raises:
            MissingValuesError: If a value is missing and no row has one from which to make another.
        """
        if not column.null_count() and self.standardize is False:
            return Learned()
        known = _known(column, train)
        count, mean, deviation = (
            _center(known) if given is None else (given.count, given.mean, given.deviation)
        )
        if isinstance(self.missing, int | float):
            return Learned(self.missing, mean, deviation)
        middle = self.missing == "median"
        if column.null_count() and not (len(known) if middle else count):
            raise MissingValuesError(column=self.name, count=column.null_count(), rows=len(column))
        return Learned(float(np.median(known)) if middle and len(known) else mean, mean, deviation)

    def fill(self, column: pl.Series, learned: Learned, into: NDArray[Any]) -> None:
        """Write the inputs of all rows."""
        if not column.null_count() and self.standardize is False:
            into[:, 0] = column.to_numpy()
            return
        values = column.cast(pl.Float64).fill_null(learned.filler).to_numpy()
        if self.standardize is not False:
            given = self.standardize
            mean, deviation = (learned.mean, learned.deviation) if given is True else given
            values = (values - mean) / (deviation + _EPSILON)
        into[:, 0] = values


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A column of categories that becomes one input of 0 and 1 for each of them; a missing value is 0 in all.

    Attributes:
        name: Its name.
        missing: What to do about missing values.
        categories: All that may occur, in the order of the inputs; the same at all nodes, because the plan names them.
    """

    name: str
    missing: Missing
    categories: tuple[str, ...]

    @property
    def features(self) -> list[str]:
        """Return the names of the inputs that it makes."""
        return [f"{self.name}={category}" for category in self.categories]

    def check(self, column: pl.Series) -> None:
        """Make sure that it can be used.

        Raises:
            UnknownCategoryError: If something else occurs; tells how often, and not what.
        """
        codes(column, self.categories)

    def learn(self, column: pl.Series, train: Rows, given: ColumnMoments | None = None) -> Learned:  # noqa: ARG002 - the plan says all
        """Return nothing."""
        return Learned()

    def fill(self, column: pl.Series, learned: Learned, into: NDArray[Any]) -> None:  # noqa: ARG002 - nothing is learnt
        """Write the inputs of all rows."""
        found = codes(column, self.categories)
        into[:] = found[:, None] == np.arange(len(self.categories))


def _known(column: pl.Series, train: Rows) -> NDArray[np.float64]:
    return column.cast(pl.Float64).gather(train).drop_nulls().to_numpy()


def _center(values: NDArray[np.float64]) -> tuple[int, float, float]:
    """Return count, mean and standard deviation (ddof 1) of values; 0 where there are too few for one."""
    mean = float(values.mean()) if len(values) else 0.0
    return len(values), mean, float(values.std(ddof=1)) if len(values) > 1 else 0.0


def codes(column: pl.Series, categories: Sequence[str]) -> NDArray[np.int64]:
    """Return the position of each value among the categories, compared as text; -1 where it is missing.

    Raises:
        UnknownCategoryError: If something else occurs; tells how often, and not what.
    """
    text = column.cast(pl.String)
    found = text.replace_strict(
        list(categories), list(range(len(categories))), default=-1, return_dtype=pl.Int64
    )
    if unknown := int(((found == -1) & text.is_not_null()).sum()):
        raise UnknownCategoryError(count=unknown, column=column.name, known=", ".join(categories))
    return found.fill_null(-1).to_numpy()
