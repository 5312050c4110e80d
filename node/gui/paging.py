"""Show long tables a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

Item = TypeVar("Item")

ROWS: Final = 50
"""Rows of one page."""


@dataclass(frozen=True, slots=True)
class Slice(Generic[Item]):
    """One page of a long table.

    Attributes:
        rows: What is on it.
        page: Its number, from 1.
        pages: How many there are, at least one.
        total: Rows on all of them.
        before: Where the page before is; empty if there is none.
        after: Where the next is; empty if there is none.
        here: Where this page is.
    """

    rows: Sequence[Item]
    page: int
    pages: int
    total: int
    before: str
    after: str
    here: str


def slice_of(
    rows: Sequence[Item], page: int, *, path: str, filters: Mapping[str, Any], size: int = ROWS
) -> Slice[Item]:
    """Return one page of rows; the last one if there are not so many.

    Args:
        rows: All rows, filtered.
        page: The number that was asked for.
        path: Path of the table.
        filters: What narrows the table down; links to other pages keep it.
        size: Rows of one page.
    """
    pages = max(1, -(-len(rows) // size))
    page = min(page, pages)
    shown = rows[(page - 1) * size : page * size]
    return _slice(shown, page, len(rows), path=path, filters=filters, size=size)


def slice_by(
    fetch: Callable[[int, int], tuple[Sequence[Item], int]],
    page: int,
    *,
    path: str,
    filters: Mapping[str, Any],
    size: int = ROWS,
) -> Slice[Item]:
    """Return one page of rows that are fetched when they are shown; the last one if there are not so many.

    Args:
        fetch: Given how many rows are wanted and how many are skipped, returns them, and how many there are in all.
        page: The number that was asked for.
        path: Path of the table.
        filters: What narrows the table down; links to other pages keep it.
        size: Rows of one page.
    """
    rows, total = fetch(size, (page - 1) * size)
    pages = max(1, -(-total // size))
    if page > pages:
        page = pages
        rows, total = fetch(size, (page - 1) * size)
    return _slice(rows, page, total, path=path, filters=filters, size=size)


def _slice(
    rows: Sequence[Item], page: int, total: int, *, path: str, filters: Mapping[str, Any], size: int
) -> Slice[Item]:
    pages = max(1, -(-total // size))

    def at(number: int) -> str:
        stated = {name: value for name, value in filters.items() if value not in ("", None)}
        return f"{path}?{urlencode({**stated, 'page': number})}"

    return Slice(
        rows=rows,
        page=page,
        pages=pages,
        total=total,
        before=at(page - 1) if page > 1 else "",
        after=at(page + 1) if page < pages else "",
        here=at(page),
    )
