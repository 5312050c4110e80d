"""What several commands of `warren-node` take and show."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Argument(metavar="HOME", help="Folder of the node.")]


def moment(unix_time: float | None) -> str | None:
    """Return a Unix time in the time zone of the reader, to the second."""
    if unix_time is None:
        return None
    return datetime.fromtimestamp(unix_time, tz=UTC).astimezone().isoformat(sep=" ", timespec="seconds")


def visible(text: str) -> str:
    """Return text in which nothing can hide: control, formatting and line characters are shown as escapes.

    Text that others sent may carry terminal sequences or change the direction of writing, and look like what it is not.
    """
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    hidden = unicodedata.category(character)[0] == "C" or unicodedata.category(character) in {"Zl", "Zp"}
    return f"\\u{{{ord(character):x}}}" if hidden and character != "\t" else character
