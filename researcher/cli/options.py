"""What several commands of `warren-researcher` take, and how they enter the federation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from common import logs

if TYPE_CHECKING:
    from researcher.federation import Federation

DEFAULT_HOME: Final = Path("warren-researcher")
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="WARREN_HOME", help="Folder made by `warren-researcher init`.")
]
Directory = Annotated[Path, typer.Argument(help="The directory of the experiment.")]
Round = Annotated[
    int | None, typer.Option("--round", help="Number of a finished round; the last one if not given.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show only what goes wrong, and the end.")]
Board = Annotated[
    Path | None, typer.Option("--tensorboard", help="Write scalars below this folder for TensorBoard.")
]
Lines = Annotated[
    bool,
    typer.Option("--json-lines", help="Print each event as a line of JSON, as it happens, and nothing else."),
]


@contextmanager
def entered(home: Path) -> Iterator[Federation]:
    """Open the federation of a home, and keep a log there as long as the block lasts."""
    from researcher.federation import Federation
    from researcher.home import Home

    with Federation.open(home) as federation, logs.kept(Home(home).log):
        yield federation
