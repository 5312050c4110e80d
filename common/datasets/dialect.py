"""How a table is written down: what people say of it, and what its first line tells."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Annotated, Final, Literal

from polars.exceptions import PanicException, PolarsError
from pydantic import Field

from common.datasets.families.base import Options
from common.errors import DataFileError, DataFileGoneError

MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "?")
"""Cells of a text file that count as missing."""

LONGEST_NAME: Final = 200
_DELIMITERS: Final = ",;\t|"
_LONGEST_HEADER: Final = 1024 * 1024
_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
Dtype = Literal["Int64", "Float64", "String", "Boolean"]


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
class Dialect:
    """How a text file holds a table.

    Attributes:
        encoding: Of its characters.
        delimiter: What stands between cells.
        header: Whether the first line names the columns.
    """

    encoding: str
    delimiter: str
    header: bool


def dialect_of(path: Path, options: TableOptions = PLAIN) -> Dialect:
    """Return how a text file holds a table, after checking its first line.

    Raises:
        DataFileError: If it cannot be read so, or its header is none.
        DataFileGoneError: If there is no such file.
    """
    encoding = _encoding(path, options)
    with readable(path, encoding), path.open(encoding=encoding, newline="") as file:
        first = file.readline(_LONGEST_HEADER)
        counts = Counter(
            {delimiter: len(next(csv.reader([first], delimiter=delimiter), [])) for delimiter in _DELIMITERS}
        )
    delimiter = options.delimiter or counts.most_common(1)[0][0]
    if options.decimal_comma and delimiter == ",":
        reason = "a comma cannot stand between cells and in numbers (option decimal_comma)"
        raise DataFileError(path=path, data_type="a table", reason=reason)
    return Dialect(encoding, delimiter, is_header(path, first, delimiter, options))


def is_header(path: Path, first: str, delimiter: str, options: TableOptions) -> bool:
    """Tell whether the first line of a table names its columns, after checking it.

    Raises:
        DataFileError: If it cannot be the first line of a table.
    """
    with readable(path):
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    header = options.header
    if header is None:
        header = not (names and all(map(_is_number, names)))
    problem = problem_of_names(names) if header else None if names else "it is empty"
    if problem:
        raise DataFileError(path=path, data_type="a table", reason=problem)
    return header


def problem_of_names(names: Sequence[str]) -> str | None:
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
        if not 0 < len(name) <= LONGEST_NAME:
            return f"column {position} has no name, or one of more than {LONGEST_NAME} characters"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in MISSING
    return True


def _encoding(path: Path, options: TableOptions) -> str:
    """Return the encoding of a text file: as registered, as its mark says, or UTF-8."""
    if options.encoding is not None:
        try:
            TextIOWrapper(BytesIO(), encoding=options.encoding)  # of all codecs, it takes those of text alone
            return codecs.lookup(options.encoding).name
        except (LookupError, ValueError) as error:
            reason = f"there is no encoding {options.encoding!r}"
            raise DataFileError(path=path, data_type="a table", reason=reason) from error
    with readable(path), path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")


@contextmanager
def readable(path: Path, encoding: str = "utf-8") -> Iterator[None]:
    """Turn what goes wrong while the block reads a table into typed errors.

    Raises:
        DataFileError: If the file cannot be read.
        DataFileGoneError: If there is no such file.
    """
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
