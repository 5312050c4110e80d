"""What several commands of `warren-node` take and show."""

from __future__ import annotations

import getpass
import os
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
