"""Look into tables: csv, tsv, parquet and Excel."""

from __future__ import annotations

from collections.abc import Sequence
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
    read_columns,
    uneven_rows,
)
from common.errors import DataFileError, UnknownColumnError


@dataclass(frozen=True, slots=True)
class TabularFamily:
    """Rows of one file."""

    options: type[TableOptions] = TableOptions

    def inspect(self, path: Path, options: TableOptions) -> Inspection:
        """Return rows and columns.

        Raises:
            DataFileError: If it is no table, if rows have too many or too few cells and the rule refuses that, or if the column of
                ids has a value twice.
            UnknownColumnError: If an option names a column that is not there.
        """
        if not path.is_file():
            raise DataFileError(path=path, data_type="a table", reason="it is no file")
        known = column_names(path, options)
        for column in (options.split_column, options.id_column, *options.dtypes, *options.units):
            if column is not None and column not in known:
                raise UnknownColumnError(column=column, columns=", ".join(known))
        uneven = dict(uneven_rows(path, options))
        if uneven and (options.on_broken == "refuse" or len(uneven) > MOST_LEFT_OUT):
            position, problem = next(iter(uneven.items()))
            reason = f"{len(uneven)} rows do not fit, the first is row {position}: {problem}"
            raise DataFileError(path=path, data_type="a table", reason=reason)
        table = inspect_tabular(path, options)
        broken: dict[str, str] = {}
        left_out = 0
        if uneven or options.leave_out or options.id_column is not None:
            names = row_names(path, table.rows, options)
            broken = {names[position]: problem for position, problem in uneven.items()}
            left_out = len(set(options.leave_out).intersection(names) - broken.keys())
        samples = table.rows - left_out - len(broken)
        return Inspection(
            samples=samples,
            shape=(samples, len(table.columns)),
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


def row_names(path: Path, rows: int, options: TableOptions) -> Sequence[str]:
    """Return the name of each row, by which it can be left out: its id, or its position from 0.

    Raises:
        DataFileError: If ids are missing or not different.
    """
    if options.id_column is None:
        return [str(position) for position in range(rows)]
    names: list[str] = read_columns(path, [options.id_column], options)[options.id_column].cast(str).to_list()
    if None in names or len(set(names)) < len(names):
        reason = f"column {options.id_column!r} has gaps, or a value twice, and was to name each row"
        raise DataFileError(path=path, data_type="a table", reason=reason)
    return names


FAMILY: Final = TabularFamily()
