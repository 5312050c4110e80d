"""Read tables, and find out what is in them without keeping any value."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from common.errors import DataFileError, DataFileGoneError
from common.messages import Column

CSV: Final = {".csv", ".tsv", ".txt"}
PARQUET: Final = {".parquet", ".pq"}
MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "?")
"""Cells of a text file that count as missing."""

_DELIMITERS: Final = ",;\t|"
_LONGEST_NAME: Final = 200
_LONGEST_HEADER: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Table:
    """What a table holds, without any value."""

    rows: int
    columns: tuple[Column, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        return self.rows, len(self.columns)


def inspect_tabular(path: Path) -> Table:
    """Return rows, and name, dtype and missing values of each column, after reading the file once.

    csv, tsv and txt: UTF-8 with a header; the delimiter (comma, semicolon, tab or bar) is found from the header. parquet. An
    empty cell, `NA`, `NaN`, `NULL` and `?` count as missing.

    Raises:
        DataFileError: If the file cannot be read, is empty, has no header or the same column twice.
        DataFileGoneError: If there is no such file.
    """
    frame = scan(path)
    with _readable(path):
        kinds = frame.collect_schema()
        missing = [
            (pl.col(name).is_null() | pl.col(name).is_nan()).sum()
            if kind.is_float()
            else pl.col(name).null_count()
            for name, kind in kinds.items()
        ]
        if problem := _problem_of_names(list(kinds)):
            raise DataFileError(path=path, data_type="a table", reason=problem)
        counts = frame.select(pl.len().alias(""), *missing).collect().row(0)
    if not counts[0]:
        raise DataFileError(path=path, data_type="a table", reason="it has no rows")
    columns = zip(kinds.items(), counts[1:], strict=True)
    return Table(
        counts[0], tuple(Column(name=name, dtype=str(kind), missing=gaps) for (name, kind), gaps in columns)
    )


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns in the order of the file.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
    """
    frame = scan(path)
    with _readable(path):
        return frame.collect_schema().names()


def read_columns(path: Path, columns: Sequence[str], *, texts: Sequence[str] = ()) -> pl.DataFrame:
    """Return some columns of a table, each once, with missing values as null; those in `texts` as they are written.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
    """
    frame = scan(path, texts)
    with _readable(path):
        chosen = frame.select(list(dict.fromkeys(columns))).collect().fill_nan(None)
        return chosen.with_columns(pl.col(name).cast(pl.String) for name in texts)


def scan(path: Path, texts: Sequence[str] = ()) -> pl.LazyFrame:
    """Return a table of which nothing but the header was read yet."""
    if not path.is_file():
        raise DataFileGoneError(name=path.name, what="is gone")
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return pl.scan_parquet(path, glob=False)
    if suffix not in CSV:
        reason = f"its name ends in none of {', '.join(sorted(CSV | PARQUET))}"
        raise DataFileError(path=path, data_type="a table", reason=reason)
    return pl.scan_csv(
        path,
        separator=_delimiter(path),
        null_values=list(MISSING),
        schema_overrides=dict.fromkeys(texts, pl.String),
        infer_schema_length=None,
        glob=False,
    )


def _delimiter(path: Path) -> str:
    """Return the delimiter of a text file, after checking its header."""
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline(_LONGEST_HEADER)
    counts = Counter(
        {delimiter: len(next(csv.reader([header], delimiter=delimiter), [])) for delimiter in _DELIMITERS}
    )
    delimiter = counts.most_common(1)[0][0]
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if problem := _problem_of_names(names):
        raise DataFileError(path=path, data_type="a table", reason=problem)
    return delimiter


def _problem_of_names(names: Sequence[str]) -> str | None:
    """Return what is wrong with the names of a table's columns, if anything."""
    if not names:
        return "it is empty"
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        return f"column {twice[0]!r} occurs twice"
    if all(_is_number(name) for name in names):
        return "its first line holds numbers, and the names of the columns were expected"
    for position, name in enumerate(names, start=1):
        if not 0 < len(name) <= _LONGEST_NAME:
            return f"column {position} has no name, or one of more than {_LONGEST_NAME} characters"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in MISSING
    return True


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataFileGoneError(name=path.name, what="is gone") from error
    except UnicodeDecodeError as error:
        raise DataFileError(path=path, data_type="a table", reason="it is not UTF-8") from error
    except OSError as error:
        raise DataFileError(
            path=path, data_type="a table", reason=error.strerror or "it cannot be read"
        ) from error
    except (PolarsError, PanicException, csv.Error) as error:
        reason = str(error).partition("\n")[0]
        raise DataFileError(path=path, data_type="a table", reason=reason) from error
