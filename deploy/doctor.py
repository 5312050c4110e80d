"""The command that says whether whoever operates a federation has all that is needed, and what to do where not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.cli import AsJson


def doctor(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the federation.")],
    as_json: AsJson = False,
) -> None:
    """Look at authority, kits, way to the broker and machine; exit with 1 if something is wrong."""
    from common import logs
    from common.doctor import show
    from deploy.examination import examine
    from deploy.federation import Federation

    logs.configure(stream=None)
    show(examine(Federation.load(directory)), as_json=as_json)
