"""Offer the commands about an audit log, which are the same for nodes and researchers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import AsJson, emit, moment, new_app, reported, table

if TYPE_CHECKING:
    from common.audit.record import Action, Record
    from common.audit.verify import Verdict

Home = Annotated[Path, typer.Argument(metavar="HOME", help="Folder of the node or researcher.")]
Source = Annotated[
    Path, typer.Argument(metavar="HOME", help="That folder, or a file that `audit export` wrote.")
]
Lines = Annotated[int, typer.Option("--lines", "-n", min=1, help="How many records from the end.")]
Actor = Annotated[str | None, typer.Option(help="Only what somebody of this name did, or a part of it.")]
What = Annotated[str | None, typer.Option(help="Only this action, such as update_released.")]
About = Annotated[
    str | None, typer.Option(help="Only what is about this: part of an id, a hash, a name, a code, a note.")
]
Anchors = Annotated[
    list[str] | None,
    typer.Option(
        "--anchor",
        metavar="NUMBER:SHA256",
        help="A place of the log that was noted elsewhere; may be repeated.",
    ),
]
Target = Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")]


def audit_app(folder_of: Callable[[Path], Path]) -> typer.Typer:
    """Return the commands.

    Args:
        folder_of: Returns the folder of the audit log in a home; raises HomeError if that is none.
    """
    app = new_app("Look at the audit log: who asked what, who decided what, what left.")

    @app.command()
    @reported
    def show(
        home: Home,
        lines: Lines = 50,
        actor: Actor = None,
        action: What = None,
        about: About = None,
        as_json: AsJson = False,
    ) -> None:
        """Show the end of the log, or of what is wanted of it, after checking all of it."""
        from common.audit.selection import Selection, select
        from common.audit.verify import read_records

        wanted = Selection(actor=actor, actions=_actions(action), about=about)
        records = select(read_records(folder_of(home)), wanted, most=lines).records
        emit(
            [record.model_dump(mode="json", exclude_none=True) for record in records],
            table("number", "at", "actor", "action", "outcome", "about", rows=map(_row, records)),
            as_json=as_json,
        )

    @app.command()
    @reported
    def verify(home: Source, anchor: Anchors = None, as_json: AsJson = False) -> None:
        """Check that nothing in the log was changed, removed or moved; what an anchor vouches for cannot have been written anew."""
        from common.audit.anchor import Anchor
        from common.audit.verify import verify as check

        source = home if home.is_file() else folder_of(home)
        _tell(check(source, *map(Anchor.parse, anchor or ())), "in order", as_json=as_json)

    @app.command()
    @reported
    def export(home: Home, file: Target, as_json: AsJson = False) -> None:
        """Write the whole log into one file, after checking it; `audit verify` checks the file by itself."""
        from common.audit.verify import export as write

        _tell(write(folder_of(home), file), f"written to {file}", as_json=as_json)

    return app


def _actions(name: str | None) -> frozenset[Action] | None:
    from common.audit.record import Action

    try:
        return None if name is None else frozenset({Action(name)})
    except ValueError as error:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(Action)}") from error


def _tell(verdict: Verdict, what: str, *, as_json: bool) -> None:
    anchor = str(verdict.end) if verdict.end else None
    document = {
        "records": verdict.records,
        "anchor": anchor,
        "anchored": verdict.anchored,
        "unfinished_bytes": verdict.unfinished_bytes,
    }
    emit(
        document,
        f"{verdict.records} records, {what}",
        *([f"anchor {anchor}: noted elsewhere, it vouches for all of them"] if anchor else []),
        as_json=as_json,
    )


def _row(record: Record) -> tuple[object, ...]:
    about = record.model_dump(
        mode="json",
        exclude_none=True,
        exclude={"number", "at", "party", "previous", "sha256", "actor", "action", "outcome"},
    )
    shown = " ".join(f"{name}={_short(value)}" for name, value in about.items())
    return record.number, moment(record.at), ascii(record.actor)[1:-1], record.action, record.outcome, shown


def _short(value: object) -> str:
    """Return a value so that nothing in it can hide, and digests in their first characters."""
    text = ascii(value) if isinstance(value, str) else str(value)
    return f"{text[1:13]}..." if isinstance(value, str) and len(value) == 64 and value.isalnum() else text
