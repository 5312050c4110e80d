"""Read tables, and find out what is in them without keeping any value."""

from __future__ import annotations

import codecs
import csv
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Annotated, Final, Literal

import polars as pl
from polars.exceptions import PanicException, PolarsError
from pydantic import Field

from common.datasets.excel import sheet_as_csv
from common.datasets.families.base import Options
from common.datasets.formats import CSV, EXCEL, PARQUET
from common.errors import DataFileError, DataFileGoneError, MissingValuesError
from common.messages import Column
from common.messages.description import CATEGORIES

log = logging.getLogger(__name__)

MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "?")
"""Cells of a text file that count as missing."""

ROW: Final = ""
PERSON: Final = " "
"""Names of the columns of positions and of ids: no column of a table has such a name."""

_DELIMITERS: Final = ",;\t|"
_SAMPLE: Final = 1000
"""Rows from which types are guessed first: to find them from all rows takes several times as long as reading."""
_LONGEST_NAME: Final = 200
_LONGEST_HEADER: Final = 1024 * 1024
_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
Dtype = Literal["Int64", "Float64", "String", "Boolean"]
_DTYPES: Final = {"Int64": pl.Int64, "Float64": pl.Float64, "String": pl.String, "Boolean": pl.Boolean}


class TableOptions(Options):
    """How a table is to be read; what is not given is found out."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Of a text file: comma, semicolon, tab or bar, if the header decides."""
    header: bool | None = None
    """Whether the first line names the columns, which it does unless it holds nothing but numbers; else they are column_0, column_1, ..."""
    decimal_comma: bool = False
    """Whether numbers of a text file are written as 1,5; its delimiter is then no comma."""
    encoding: str | None = None
    """Of a text file: UTF-8, or UTF-16 if it begins with the mark of that."""
    sheet: str | None = None
    """Of an Excel file: the first one."""
    dtypes: dict[str, Dtype] = Field(default_factory=dict)
    """Types of columns that would be taken for something else, such as codes with leading zeros."""
    split_column: str | None = None
    """A column of `train` and `test` that says which part each row belongs to; wins over the plan's."""
    tell_categories: tuple[str, ...] = ()
    """Columns of which other parties may know what occurs in them, so that plans of all nodes can name the same categories."""
    id_column: str | None = None
    """A column that says whose row it is; rows then go to their part by it, and `leave_out` names what it holds."""


PLAIN: Final = TableOptions()


@dataclass(frozen=True, slots=True)
class Table:
    """What a table holds, without any value."""

    rows: int
    columns: tuple[Column, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        return self.rows, len(self.columns)


def inspect_tabular(path: Path, options: TableOptions = PLAIN) -> Table:
    """Return rows, and name, dtype and missing values of each column, after reading the file once.

    csv, tsv and txt, parquet, and sheets of xlsx. An empty cell, `NA`, `NaN`, `NULL` and `?` count as missing.

    Raises:
        DataFileError: If the file cannot be read, is empty, has no header or the same column twice.
        DataFileGoneError: If there is no such file.
        MissingExtraError: If it is an Excel file and the package for that is not installed.
    """
    frame = scan(path, options)
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
        counts = frame.select(pl.len().alias(""), *missing).collect(engine="streaming").row(0)
    if not counts[0]:
        raise DataFileError(path=path, data_type="a table", reason="it has no rows")
    told = {name: _categories(path, name, options) for name in options.tell_categories}
    columns = tuple(
        Column(
            name=name,
            dtype=str(kind),
            missing=gaps,
            unit=options.units.get(name, ""),
            categories=told.get(name, ()),
        )
        for (name, kind), gaps in zip(kinds.items(), counts[1:], strict=True)
    )
    return Table(counts[0], columns)


def _categories(path: Path, column: str, options: TableOptions) -> tuple[str, ...]:
    """Return what occurs in a column, as plans compare it, sorted.

    Raises:
        DataFileError: If there are more than a description holds, or one is too long: then it is no column of categories.
    """
    found = sorted(read_columns(path, [column], options)[column].drop_nulls().cast(pl.String).unique())
    if len(found) > CATEGORIES or not all(0 < len(one) <= _LONGEST_NAME for one in found):
        reason = f"column {column!r} holds {len(found)} different values, and at most {CATEGORIES} short ones can be told"
        raise DataFileError(path=path, data_type="a table", reason=reason)
    return tuple(found)


def uneven_rows(path: Path, options: TableOptions = PLAIN) -> Iterator[tuple[int, str]]:
    """Yield the position of each row of a text file that has more or fewer cells than the first line, and how many.

    polars fills short rows with nulls without a word, so somebody has to count.

    Raises:
        DataFileError: If the file cannot be read.
    """
    if path.suffix.lower() not in CSV:
        return
    encoding = _encoding(path, options)
    delimiter, header = _form_of_text(path, encoding, options)
    with _readable(path, encoding), path.open(encoding=encoding, newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        first = next(rows, [])
        lines = rows if header else itertools.chain([first], rows)
        for position, row in enumerate(lines):
            if len(row) != len(first) and not (len(first) == 1 and not row):
                yield position, f"it has {len(row)} cells, and the first line has {len(first)}"


def numbered_rows(
    path: Path, columns: Sequence[str], options: TableOptions, person: str | None
) -> pl.DataFrame:
    """Return some columns of a table, with the position of each row (`ROW`) and, if a column says that, whose it is (`PERSON`).

    An id is what is written in the file, without white space around it, whatever the column would be taken for otherwise.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
        MissingValuesError: If a row lacks its id.
    """
    frame = read_columns(path, columns, options).with_row_index(ROW)
    if person is None:
        return frame
    as_written = options.model_copy(update={"dtypes": {**options.dtypes, person: "String"}})
    ids = read_columns(path, [person], as_written)[person].cast(pl.String).str.strip_chars()
    if gaps := ids.null_count():
        raise MissingValuesError(column=person, count=gaps, rows=len(ids))
    return frame.with_columns(ids.alias(PERSON))


def used_rows(frame: pl.DataFrame, options: TableOptions) -> pl.DataFrame:
    """Return the rows that may be used, of what `numbered_rows` returned with the registered column of ids."""
    broken, left_out = list(options.broken), list(options.leave_out)
    if broken:
        frame = frame.filter(~pl.col(ROW).cast(pl.String).is_in(broken))
    if left_out:
        named_by = ROW if options.id_column is None else PERSON
        frame = frame.filter(~pl.col(named_by).cast(pl.String).is_in(left_out))
    return frame


def column_names(path: Path, options: TableOptions = PLAIN) -> list[str]:
    """Return the names of a table's columns in the order of the file.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
    """
    frame = scan(path, options, infer=0)
    with _readable(path):
        return frame.collect_schema().names()


def read_columns(path: Path, columns: Sequence[str], options: TableOptions = PLAIN) -> pl.DataFrame:
    """Return some columns of a table, each once, with missing values as null.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
    """
    names = list(dict.fromkeys(columns))
    for read in (_numbers, _guessed):
        try:
            found = read(path, names, options)
        except DataFileError:
            log.debug("the table is read again", extra={"action": "table_read_again"})
            continue
        if found is not None:
            return found
    with _readable(path):
        return scan(path, options).select(names).collect().fill_nan(None)


def _numbers(path: Path, names: Sequence[str], options: TableOptions) -> pl.DataFrame | None:
    """Return columns that hold nothing but numbers and empty cells, or None if there is anything else in them.

    Words for missing values are not looked for, which takes a fifth of the time: one that was there would be no number.
    """
    if path.suffix.lower() in EXCEL:  # whose reading takes longer than looking for words
        return None
    frame = scan(path, options, infer=_SAMPLE, words=()).select(names)
    with _readable(path):
        kinds = frame.collect_schema()
        if not all(kind.is_numeric() for kind in kinds.dtypes()):
            return None
        found = frame.collect()
    floats = [name for name, kind in kinds.items() if kind.is_float()]
    return None if any(found[name].is_nan().any() for name in floats) else found


def _guessed(path: Path, names: Sequence[str], options: TableOptions) -> pl.DataFrame | None:
    """Return columns whose types follow from their first rows, or None if it takes all rows to know."""
    with _readable(path):
        found = scan(path, options, infer=_SAMPLE).select(names).collect()
    return found.fill_nan(None) if all(_is_told(found[name]) for name in names) else None


def first_rows(path: Path, count: int, options: TableOptions = PLAIN) -> pl.DataFrame:
    """Return the first rows of a table.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
    """
    frame = scan(path, options)
    with _readable(path):
        return frame.head(count).collect()


def _is_told(column: pl.Series) -> bool:
    """Tell whether a column's type, found from its first rows, is that of all: a type that did not fit would have been an error."""
    return column.dtype != pl.String or column.head(_SAMPLE).null_count() < min(_SAMPLE, len(column))


def scan(
    path: Path, options: TableOptions = PLAIN, *, infer: int | None = None, words: Sequence[str] = MISSING
) -> pl.LazyFrame:
    """Return a table of which as little as possible was read yet.

    Args:
        path: The file.
        options: How it is to be read.
        infer: Rows of a text file to find types from; all if none.
        words: Cells of a text file that count as missing, besides empty ones.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
        MissingExtraError: If it is an Excel file and the package for that is not installed.
    """
    if not path.is_file():
        raise DataFileGoneError(name=path.name, what="is gone")
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return pl.scan_parquet(path, glob=False)
    if suffix in EXCEL:
        sheet = sheet_as_csv(path, options.sheet)
        first = sheet.readline().decode()
        sheet.seek(0)
        return _scan_text(path, sheet, _form(path, first, ",", options), options, infer, words)
    if suffix not in CSV:
        reason = f"its name ends in none of {', '.join(sorted(CSV | EXCEL | PARQUET))}"
        raise DataFileError(path=path, data_type="a table", reason=reason)
    encoding = _encoding(path, options)
    form = _form_of_text(path, encoding, options)
    if encoding in ("utf-8", "utf-8-sig"):
        return _scan_text(path, path, form, options, infer, words)
    with _readable(path, encoding):  # polars reads UTF-8 alone
        text = path.read_text(encoding=encoding)
    return _scan_text(path, BytesIO(text.encode()), form, options, infer, words)


def _scan_text(
    path: Path,
    source: Path | IO[bytes],
    form: tuple[str, bool],
    options: TableOptions,
    infer: int | None,
    words: Sequence[str],
) -> pl.LazyFrame:
    with _readable(path):
        return pl.scan_csv(
            source,
            separator=form[0],
            has_header=form[1],
            decimal_comma=options.decimal_comma and form[0] != ",",
            null_values=list(words),
            infer_schema_length=infer,
            schema_overrides={name: _DTYPES[kind] for name, kind in options.dtypes.items()},
            truncate_ragged_lines=options.on_broken == "skip",
            glob=False,
        )


def _encoding(path: Path, options: TableOptions) -> str:
    """Return the encoding of a text file: as registered, as its mark says, or UTF-8."""
    if options.encoding is not None:
        try:
            return codecs.lookup(options.encoding).name
        except LookupError as error:
            reason = f"there is no encoding {options.encoding!r}"
            raise DataFileError(path=path, data_type="a table", reason=reason) from error
    with _readable(path), path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")


def _form_of_text(path: Path, encoding: str, options: TableOptions) -> tuple[str, bool]:
    """Return the delimiter of a text file and whether it has a header, after checking its first line."""
    with _readable(path, encoding), path.open(encoding=encoding, newline="") as file:
        first = file.readline(_LONGEST_HEADER)
        counts = Counter(
            {delimiter: len(next(csv.reader([first], delimiter=delimiter), [])) for delimiter in _DELIMITERS}
        )
    delimiter = options.delimiter or counts.most_common(1)[0][0]
    if options.decimal_comma and delimiter == ",":
        reason = "a comma cannot stand between cells and in numbers (option decimal_comma)"
        raise DataFileError(path=path, data_type="a table", reason=reason)
    return _form(path, first, delimiter, options)


def _form(path: Path, first: str, delimiter: str, options: TableOptions) -> tuple[str, bool]:
    """Return a delimiter, and whether the first line is a header, after checking that line."""
    with _readable(path):
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    header = options.header
    if header is None:
        header = not (names and all(map(_is_number, names)))
    problem = _problem_of_names(names) if header else None if names else "it is empty"
    if problem:
        raise DataFileError(path=path, data_type="a table", reason=problem)
    return delimiter, header


def _problem_of_names(names: Sequence[str]) -> str | None:
    """Return what is wrong with the names of a table's columns, if anything."""
    if not names:
        return "it is empty"
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        return f"column {twice[0]!r} occurs twice"
    if all(_is_number(name) for name in names):
        return (
            "its first line holds numbers, and the names of the columns were expected (option header=false)"
        )
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
def _readable(path: Path, encoding: str = "utf-8") -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataFileGoneError(name=path.name, what="is gone") from error
    except UnicodeError as error:
        reason = f"it is not {encoding.removesuffix('-sig').upper()} (option encoding)"
        raise DataFileError(path=path, data_type="a table", reason=reason) from error
    except OSError as error:
        raise DataFileError(
            path=path, data_type="a table", reason=error.strerror or "it cannot be read"
        ) from error
    except (PolarsError, PanicException, csv.Error) as error:
        reason = str(error).partition("\n")[0]
        raise DataFileError(path=path, data_type="a table", reason=reason) from error
