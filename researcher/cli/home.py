"""Offer the commands that make a researcher's home and say whether all is well with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common import logs
from common.cli import AsJson, emit
from common.errors import HomeError
from researcher.cli.options import DEFAULT_HOME, HomeOption


def init(
    home: Annotated[Path, typer.Argument(help="A new folder.")],
    kit: Annotated[Path, typer.Option("--kit", help="The kit that the federation operator made.")],
    as_json: AsJson = False,
) -> None:
    """Make a researcher's home from a kit."""
    from researcher.home import Home

    made = Home.init(home, kit)
    emit({"home": made.path}, f"{made.path} is ready; set WARREN_HOME to it", as_json=as_json)


def install(home: Path, kit: Path) -> None:
    """Make a home from a kit that was just enrolled."""
    from researcher.home import Home

    Home.init(home, kit)


def doctor(home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Look at kit, way to the broker, nodes, experiments and machine; exit with 1 if something is wrong."""
    from common.doctor import show
    from researcher.doctor import examine
    from researcher.home import Home

    logs.configure(stream=None)
    show(examine(Home(home)), as_json=as_json)


def audit_folder(path: Path) -> Path:
    """Return where a home keeps its audit log.

    Raises:
        HomeError: If it is no home.
    """
    from researcher.home import Home

    home = Home(path)
    if not home.kit.is_dir():
        raise HomeError(path=path, reason="it has no kit")
    return home.audit
