"""Give the command lines one way to print a result and one way to fail.

    @app.command()
    @reported
    def show(directory: Path, as_json: AsJson = False) -> None:
        emit({"parties": rows}, table("party", "role", rows=rows), as_json=as_json)

A person sees tables and sentences, a program that passes `--json` sees one JSON document on standard output, also when
the command fails or is stopped. The exit code of a failure is 1, that of Ctrl-C 130.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, ParamSpec

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from common import logs
from common.errors import WarrenError
from common.text import visible_lines

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
"""The option that every command has, named `as_json` in its signature."""

FAILED: Final = 1
"""Exit code of a command that a WarrenError ended."""

INTERRUPTED: Final = 130
"""Exit code of a command that Ctrl-C ended."""

_WIDE: Final = 1000
"""Columns of what is no terminal."""


def new_app(help_text: str) -> typer.Typer:
    """Return an app, or a group of commands in one, that shows its help when nothing is asked of it."""
    return typer.Typer(help=help_text, no_args_is_help=True, pretty_exceptions_enable=False)


def new_program(help_text: str) -> typer.Typer:
    """Return the app of a program whose commands come and go: warnings are logged to standard error, everything with `--verbose`."""
    app = new_app(help_text)

    @app.callback()
    def options(
        *,
        verbose: Annotated[
            bool,
            typer.Option("--verbose", help="Log to standard error what happens, not only what goes wrong."),
        ] = False,
    ) -> None:
        logs.configure(logging.DEBUG if verbose else logging.WARNING)

    return app


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command show a WarrenError as code, text, cause and remedy, without a traceback, and exit with 1; with 130 at Ctrl-C."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except WarrenError as error:
            show_error(error, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            emit({"stopped": True}, "Stopped.", as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(INTERRUPTED) from error

    return run


def emit(document: object, *views: RenderableType, as_json: bool) -> None:
    """Print a result: `document` as JSON for programs, or `views` for people.

    Args:
        document: What `json.dumps` can write; paths and dates become text.
        views: Strings, tables or anything else that rich can show; strings may carry rich's markup, so what others chose goes through `plain`.
        as_json: Which of the two to print.
    """
    if as_json:
        typer.echo(json.dumps(document, indent=2, default=str))
    else:
        # A file or another program gets each row on one line, however long.
        width = None if sys.stdout.isatty() else _WIDE
        Console(highlight=False, width=width).print(*views, sep="\n", soft_wrap=True)


def table(*columns: str, rows: Iterable[Sequence[object]]) -> Table:
    """Return a plain table; cells are shown as they are, what hides in them as escapes, `None` as a dash."""
    view = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        view.add_column(escape(visible_lines(column)), overflow="fold")
    for row in rows:
        view.add_row(*("-" if cell is None else escape(visible_lines(str(cell))) for cell in row))
    return view


def plain(text: str) -> Text:
    """Return text of one or several lines that is shown as it is, what hides in it as escapes."""
    return Text(visible_lines(text))


def moment(unix: float | None) -> str | None:
    """Return a Unix time in the time zone of the reader, to the second."""
    if unix is None:
        return None
    return datetime.fromtimestamp(unix, tz=UTC).astimezone().isoformat(sep=" ", timespec="seconds")


def show_error(error: WarrenError, *, as_json: bool = False) -> None:
    """Print what happened, why it usually does, and what to do: as JSON on standard output, or as text on standard error."""
    if as_json:
        facts = {"code": error.code, "text": error.text.format(**error.facts)}
        emit({"error": {**facts, "cause": error.cause, "remedy": error.advice}}, as_json=True)
        return
    console = Console(stderr=True, highlight=False)
    console.print(
        f"[bold red]{error.code}[/] {escape(visible_lines(error.text.format(**error.facts)))}", soft_wrap=True
    )
    console.print(f"  [dim]cause:[/]  {escape(error.cause)}", soft_wrap=True)
    console.print(f"  [dim]remedy:[/] {escape(visible_lines(error.advice))}", soft_wrap=True)
