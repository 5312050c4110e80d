"""What several commands of `warren-node` take and show."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Argument(metavar="HOME", help="Folder of the node.")]


def person() -> str:
    """Return who is at the keyboard, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid {os.getuid()}"


def moment(unix_time: float | None) -> str | None:
    """Return a Unix time in the time zone of the reader, to the second."""
    if unix_time is None:
        return None
    return datetime.fromtimestamp(unix_time, tz=UTC).astimezone().isoformat(sep=" ", timespec="seconds")
