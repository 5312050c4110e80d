"""The commands `warren dead`: what was refused, and what to do with it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from common.cli import AsJson, emit, new_app, reported, table
from common.errors import NoSuchLetterError
from common.ids import REGISTRAR
from common.security.kit import Kit
from deploy.federation import Federation

if TYPE_CHECKING:
    from common.transport.amqp_dead import DeadLetter, DeadLetters

dead_letters = new_app("Look at messages that their recipients refused, and put them back or remove them.")

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the federation.")]
Letters = Annotated[
    list[str] | None, typer.Argument(metavar="[LETTER]...", help="Ids of letters, as `list` shows them.")
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@dead_letters.command("list")
@reported
def list_(directory: Directory, as_json: AsJson = False) -> None:
    """List the dead letters, the oldest first: who wrote to whom, when, and why the broker set it aside."""
    with _opened(Federation.load(directory)) as letters:
        found = letters.all()
    rows = [
        (letter.id, *_ends(letter)[:2], letter.reason, _moment(letter.died_at), letter.size_bytes)
        for letter in found
    ]
    columns = ("letter", "from", "to", "reason", "died", "bytes")
    emit({"letters": [_document(letter) for letter in found]}, table(*columns, rows=rows), as_json=as_json)


@dead_letters.command()
@reported
def show(
    directory: Directory,
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="Id of a letter, as `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show all that can be known of one dead letter without the keys of its recipient."""
    federation = Federation.load(directory)
    with _opened(federation) as letters:
        found = [one for one in letters.all() if one.id == letter]
    _all_found(federation, [letter], found)
    documents = [_document(one) for one in found]
    rows = [(name, value) for one in documents for name, value in one.items()]
    emit(
        {"letters": documents},
        table("fact", "value", rows=rows),
        f"Why it was refused is in the log of its recipient, under letter={escape(letter)}.",
        as_json=as_json,
    )


@dead_letters.command()
@reported
def requeue(
    directory: Directory, letters: Letters = None, every: All = False, as_json: AsJson = False
) -> None:
    """Put dead letters back into the queues where they were refused; a recipient that knows them already does nothing twice."""
    federation = Federation.load(directory)
    with _opened(federation) as dead:
        wanted = _wanted(dead, letters, every=every)
        moved = dead.requeue(wanted)
    _all_found(federation, wanted, moved)
    emit({"requeued": [_document(one) for one in moved]}, f"Put back {len(moved)}.", as_json=as_json)


@dead_letters.command()
@reported
def drop(directory: Directory, letters: Letters = None, every: All = False, as_json: AsJson = False) -> None:
    """Remove dead letters for good."""
    federation = Federation.load(directory)
    with _opened(federation) as dead:
        wanted = _wanted(dead, letters, every=every)
        gone = dead.drop(wanted)
    _all_found(federation, wanted, gone)
    emit({"dropped": [_document(one) for one in gone]}, f"Removed {len(gone)}.", as_json=as_json)


def _opened(federation: Federation) -> DeadLetters:
    from common.transport.amqp_dead import DeadLetters  # slow to import, and only needed here

    kit = Kit.load(federation.kit(REGISTRAR), now=time.time())
    return DeadLetters(kit.connection, kit.ssl_context())


def _wanted(dead: DeadLetters, letters: list[str] | None, *, every: bool) -> list[str]:
    if every:
        return [letter.id for letter in dead.all()]
    if not letters:
        raise typer.BadParameter("name letters, or --all")
    return letters


def _all_found(federation: Federation, wanted: list[str], found: list[DeadLetter]) -> None:
    there = {letter.id for letter in found}
    for letter in wanted:
        if letter not in there:
            raise NoSuchLetterError(letter=letter, federation=federation.name)


def _document(letter: DeadLetter) -> dict[str, Any]:
    sender, recipient, lane = _ends(letter)
    return {
        "letter": letter.id,
        "from": sender,
        "to": recipient,
        "lane": lane,
        "user": letter.user,
        "reason": letter.reason,
        "died_at": letter.died_at,
        "requeued": letter.requeued,
        "size_bytes": letter.size_bytes,
        "recipients": letter.recipients,
    }


def _ends(letter: DeadLetter) -> tuple[str | None, str | None, str | None]:
    inbox = letter.inbox
    return (inbox.sender, inbox.recipient, inbox.lane.value) if inbox else (None, None, None)


def _moment(unix: float | None) -> str | None:
    return None if unix is None else datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")
