"""Look into tables: csv, tsv, parquet and Excel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.families.base import MOST_LEFT_OUT, Inspection
from common.datasets.inspection import (
    TableOptions,
    column_names,
    first_rows,
    inspect_tabular,
    numbered_rows,
    uneven_rows,
    used_rows,
)
from common.errors import DataFileError, UnknownColumnError


@dataclass(frozen=True, slots=True)
class TabularFamily:
    """Rows of one file."""

    options: type[TableOptions] = TableOptions

    def inspect(self, path: Path, options: TableOptions) -> Inspection:
        """Return rows and columns.

        Raises:
            DataFileError: If it is no table, or if rows have too many or too few cells and the rule refuses that.
            MissingValuesError: If the column of ids has gaps.
            UnknownColumnError: If an option names a column that is not there.
        """
        if not path.is_file():
            raise DataFileError(path=path, data_type="a table", reason="it is no file")
        known = column_names(path, options)
        for column in (
            options.split_column,
            options.id_column,
            *options.dtypes,
            *options.units,
            *options.tell_categories,
        ):
            if column is not None and column not in known:
                raise UnknownColumnError(column=column, columns=", ".join(known))
        uneven = dict(uneven_rows(path, options))
        if uneven and (options.on_broken == "refuse" or len(uneven) > MOST_LEFT_OUT):
            position, problem = next(iter(uneven.items()))
            reason = f"{len(uneven)} rows do not fit, the first is row {position}: {problem}"
            raise DataFileError(path=path, data_type="a table", reason=reason)
        table = inspect_tabular(path, options)
        broken = {str(position): problem for position, problem in uneven.items()}
        left_out = _left_out(path, options, broken)
        return Inspection(
            samples=table.rows - left_out - len(broken),
            shape=(table.rows - left_out - len(broken), len(table.columns)),
            columns=table.columns,
            broken=broken,
            left_out=left_out,
        )

    def preview(self, path: Path, options: TableOptions, count: int) -> list[dict[str, JsonValue]]:
        """Return the first rows.

        Raises:
            DataFileError: If it is no table.
        """
        rows = first_rows(path, count, options).to_dicts()
        return [
            {
                name: value if isinstance(value, bool | int | float | None) else str(value)
                for name, value in row.items()
            }
            for row in rows
        ]


def _left_out(path: Path, options: TableOptions, broken: Collection[str]) -> int:
    """Return how many rows must not be used, beside those that are broken.

    Raises:
        MissingValuesError: If a row lacks its id.
    """
    if not options.leave_out and options.id_column is None:
        return 0
    rows = numbered_rows(path, column_names(path, options)[:1], options, options.id_column)
    whole = used_rows(rows, options.model_copy(update={"leave_out": (), "broken": tuple(broken)}))
    return len(whole) - len(used_rows(whole, options))


FAMILY: Final = TabularFamily()
