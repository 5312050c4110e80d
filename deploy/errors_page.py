"""Turn the catalogue of errors into a page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

from common.errors import WarrenError

_HEAD: Final = """\
# Errors

Every error that a person can meet, by its code. This page is generated from `common.errors`: `make docs`. Words in *italics* stand for what is filled in. Where it says **stays at the node**, another party sees the code and the
heading only, because the text could name something local.
"""


def errors_page(catalogue: Iterable[type[WarrenError]]) -> str:
    """Return the catalogue, which is in the order of the codes, as Markdown."""
    parts = [_HEAD]
    for area, kinds in groupby(catalogue, key=_area):
        parts.append(f"## {_title(area)}\n")
        parts.extend(_entry(kind) for kind in kinds)
    return "\n".join(parts)


def error_document(kind: type[WarrenError]) -> dict[str, Any]:
    """Return one entry of the catalogue as plain values."""
    return {
        "code": kind.code,
        "name": kind.__name__,
        "summary": _summary(kind),
        "text": kind.text,
        "cause": kind.cause,
        "remedy": kind.remedy,
        "public": kind.public,
    }


def _entry(kind: type[WarrenError]) -> str:
    where = "" if kind.public else " · **stays at the node**"
    return (
        f"### {kind.code} {_summary(kind)}\n\n"
        f"`{kind.__name__}`{where}\n\n"
        f"- **Text:** {_filled(kind.text)}\n"
        f"- **Cause:** {kind.cause}\n"
        f"- **Remedy:** {_filled(kind.remedy)}\n"
    )


def _filled(template: str) -> str:
    """Show the fields of a template as italics, or as bare words where it is code."""

    def outside(text: str) -> str:
        return re.sub(r"\{(\w+)[^}]*\}", r"*\1*", text)

    pieces = template.replace("\n", " ").split("`")
    return "`".join(
        re.sub(r"\{(\w+)[^}]*\}", lambda field: field[1].upper(), piece) if index % 2 else outside(piece)
        for index, piece in enumerate(pieces)
    )


def _area(kind: type[WarrenError]) -> type[WarrenError]:
    return next(base for base in kind.__mro__ if WarrenError in base.__bases__)


def _title(area: type[WarrenError]) -> str:
    about = _summary(area).removeprefix("Base of the errors about ")
    return about[0].upper() + about[1:]


def _summary(kind: type[WarrenError]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")
