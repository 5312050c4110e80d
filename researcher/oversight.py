"""Offer the commands that look at experiments, at their past, and stop them; `researcher.cli` registers them."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from common.cli import AsJson, emit, table

if TYPE_CHECKING:
    from researcher.standing import Awaited, Standing

DEFAULT_HOME: Final = Path("warren-researcher")
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="WARREN_HOME", help="Folder made by `warren-researcher init`.")
]
Directory = Annotated[Path, typer.Argument(help="The directory of the experiment.")]
Round = Annotated[
    int | None, typer.Option("--round", help="Number of a finished round; the last one if not given.")
]


def status(
    directory: Annotated[
        Path | None, typer.Argument(help="The directory of one experiment; all of the home if not given.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show how experiments stand: what each open round waits for, on whom, since when, until when."""
    from researcher.home import Home
    from researcher.ledger import FILE
    from researcher.opening import last_seen
    from researcher.standing import standing

    place, nodes = Home(home), last_seen(home)
    folders = (
        [directory]
        if directory is not None
        else [path.parent for path in place.experiments.glob(f"*/{FILE}")]
    )
    found = sorted((standing(folder, place, nodes) for folder in folders), key=lambda one: str(one.folder))
    rows = [row for one in found for row in _status_rows(one)]
    emit(
        {"experiments": [dataclasses.asdict(one) for one in found]},
        table("experiment", "state", "round", "waits for", "because", "since", "until", rows=rows),
        as_json=as_json,
    )


def cancel(directory: Directory, home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Cancel the run of an experiment, in whatever process it is; if in none, tell the nodes to stop what is left of it."""
    from researcher.control import cancel_running
    from researcher.dossier import Dossier
    from researcher.experiment import Experiment
    from researcher.federation import Federation
    from researcher.home import Home

    dossier = Dossier.open(directory)
    experiment, name = dossier.row.id, dossier.row.name
    dossier.close()
    by_process = cancel_running(Home(home), experiment)
    if not by_process:
        with (
            Federation.open(home) as federation,
            Experiment.resume(directory, federation=federation, observers=()) as left,
        ):
            left.abandon()
    emit({"experiment": experiment, "was_running": by_process}, f"{name} is cancelled", as_json=as_json)


def branch(
    directory: Directory,
    folder: Annotated[
        Path, typer.Argument(help="A new directory; a relative one is beside that of the experiment.")
    ],
    round_: Round = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the new experiment.")] = None,
    as_json: AsJson = False,
) -> None:
    """Begin another experiment from the model of a past round; `resume` runs it."""
    from researcher.dossier import Dossier

    dossier = Dossier.open(directory)
    try:
        record = dossier.record(round_)
        made = dossier.branch(folder, record.round, name)
    finally:
        dossier.close()
    document = {"folder": made, "round": record.round, "model": record.model}
    emit(document, f"{made} begins with the model of round {record.round}", as_json=as_json)


def export(
    directory: Directory,
    path: Annotated[Path, typer.Argument(help="Where to write the model, as safetensors.")],
    round_: Round = None,
    as_json: AsJson = False,
) -> None:
    """Write a global model of an experiment to a file."""
    from researcher.dossier import Dossier

    dossier = Dossier.open(directory)
    try:
        number, digest = dossier.export(path, round_)
    finally:
        dossier.close()
    document = {"path": path, "round": number, "sha256": digest}
    emit(document, f"model of round {number} written to {path}", as_json=as_json)


def replay(
    directory: Directory,
    round_: Round = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="A node to leave out; may be repeated.")
    ] = None,
    path: Annotated[Path | None, typer.Option("--export", help="Write the model here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Aggregate a past round again from what is recorded; without leaving anybody out it gives the recorded model."""
    from researcher.experiment import Experiment

    past = Experiment.load(directory, round_)
    done = past.replay(without=tuple(without or ()), export=path)
    emit(
        {**dataclasses.asdict(done), "same": done.same},
        f"round {done.round} of {', '.join(done.nodes)}: {done.model}",
        "the same as recorded" if done.same else f"recorded: {done.recorded}",
        as_json=as_json,
    )
    if not done.same and not without:
        raise typer.Exit(1)


def quarantine(directory: Directory, as_json: AsJson = False) -> None:
    """Show the updates of an experiment that were refused or quarantined, and the tasks that failed, with the reasons.

    Nothing is asked for again by itself: `resume` asks the nodes again in the round that it goes on with.
    """
    from researcher.quarantine import set_aside

    found = set_aside(directory)
    rows = [
        (one.round, one.node, one.attempt, one.outcome, one.code, one.reason, _moment(one.at), one.file)
        for one in found
    ]
    columns = ("round", "node", "attempt", "outcome", "code", "reason", "at", "file")
    emit(
        {"set_aside": [dataclasses.asdict(one) for one in found]}, table(*columns, rows=rows), as_json=as_json
    )


def _status_rows(one: Standing) -> list[tuple[object, ...]]:
    state = "running" if one.running else "not running"
    number = one.round if one.round is not None else one.finished
    head = (one.folder.name, state, f"{number}/{one.round_limit or '-'}")
    if one.round is None:
        return [(*head, None, one.ended or "no round yet", None, None)]
    if not one.awaited:
        return [
            (*head, "the researcher", "all answers are here", _moment(one.opened_at), _moment(one.deadline))
        ]
    return [
        (*head, waiting.node, _because(waiting), _moment(waiting.asked_at), _moment(one.deadline))
        for waiting in one.awaited
    ]


def _because(waiting: Awaited) -> str:
    retried = f", attempt {waiting.attempt}" if waiting.attempt > 1 else ""
    if waiting.online is None:
        return f"it has not answered, and nobody knows whether it is online{retried}"
    when = f" since {_moment(waiting.since)}" if waiting.since is not None else ""
    return f"{'it is online' if waiting.online else 'it is offline'}{when}{retried}"


def _moment(unix: float | None) -> str | None:
    if unix is None:
        return None
    return datetime.datetime.fromtimestamp(unix).astimezone().isoformat(sep=" ", timespec="seconds")
