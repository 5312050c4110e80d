"""Read sheets of Excel files."""

from __future__ import annotations

import csv
import zipfile
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from common.datasets.extras import library
from common.errors import DataFileError

_MOST_BYTES: Final = 1024**3
"""Largest sum of the files in an xlsx archive: a small archive can unpack to any size."""

_WHAT: Final = "an Excel file"


def sheet_as_csv(path: Path, sheet: str | None) -> BytesIO:
    """Return the values of a sheet as comma-separated UTF-8, so that its cells are taken for what those of a csv are.

    Args:
        path: The file.
        sheet: Its name; the first one if none.

    Raises:
        DataFileError: If the file is damaged, has no such sheet, or unpacks to more than 1 GiB.
        MissingExtraError: If openpyxl is not installed.
    """
    openpyxl, problems = library("openpyxl"), library("openpyxl.utils.exceptions")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST_BYTES:
            raise DataFileError(path=path, data_type=_WHAT, reason=f"it unpacks to {size} bytes")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            return _written(path, book, sheet)
        finally:
            book.close()
    except (problems.InvalidFileException, zipfile.BadZipFile, ParseError, KeyError, ValueError) as error:
        raise DataFileError(path=path, data_type=_WHAT, reason="it is damaged, or no xlsx file") from error
    except OSError as error:
        raise DataFileError(path=path, data_type=_WHAT, reason=error.strerror or str(error)) from error


def _written(path: Path, book: Any, sheet: str | None) -> BytesIO:
    if sheet is not None and sheet not in book.sheetnames:
        reason = f"there is no sheet {sheet!r} among {', '.join(book.sheetnames)}"
        raise DataFileError(path=path, data_type=_WHAT, reason=reason)
    raw = BytesIO()
    text = TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    for row in book[sheet or book.sheetnames[0]].iter_rows(values_only=True):
        cells = [
            "" if cell is None else str(cell).lower() if cell is True or cell is False else cell
            for cell in row
        ]
        if any(cell != "" for cell in cells):
            writer.writerow(cells)
    text.detach()
    raw.seek(0)
    return raw
