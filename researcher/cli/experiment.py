"""Offer the commands that run experiments, once or in many variants, and look on while they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from common.cli import FAILED, AsJson, emit, table
from researcher.cli.options import DEFAULT_HOME, Board, Directory, HomeOption, Lines, Quiet, entered

if TYPE_CHECKING:
    from researcher.experiment import Experiment
    from researcher.monitoring import Observer
    from researcher.trials import Point


def run(
    file: Annotated[Path, typer.Argument(help="The experiment as TOML.")],
    home: HomeOption = DEFAULT_HOME,
    export: Annotated[Path | None, typer.Option("--export", help="Write the model here.")] = None,
    ask: Annotated[
        str | None,
        typer.Option("--request-approval", help="Only ask the nodes to approve the plan, with this note."),
    ] = None,
    quiet: Quiet = False,
    board: Board = None,
    lines: Lines = False,
    as_json: AsJson = False,
) -> None:
    """Run an experiment from a file."""
    from researcher.experiment_file import load_experiment

    with entered(home) as federation:
        observers = _views(board, quiet=quiet, lines=lines, as_json=as_json)
        with load_experiment(file, federation, observers) as experiment:
            if ask is not None:
                _show_approval(experiment, ask, as_json=as_json)
                return
            experiment.run()
            _show_result(experiment, export, lines=lines, as_json=as_json)


def plan(
    file: Annotated[Path, typer.Argument(help="The experiment as TOML.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the text here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the plan of an experiment file as nodes see it: `warren-node plan approve HOME --file` takes that text."""
    from researcher.experiment_file import plan_of

    text, digest = plan_of(file)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    emit({"plan_hash": digest, "source": text, "file": out}, escape(text), as_json=as_json)


def sweep(
    file: Annotated[Path, typer.Argument(help="The experiment as TOML.")],
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary", help="An argument and its values, `optimizer_args.lr=0.1,0.01`; may be repeated."
        ),
    ],
    draws: Annotated[
        int | None, typer.Option("--draws", help="Draw so many combinations; all of them if not given.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draw.")] = 0,
    home: HomeOption = DEFAULT_HOME,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run an experiment once for each combination of training arguments; those that are finished are not run again.

    Exits with 1 if one of them failed.
    """
    from researcher.trials import grid_of, parsed_grid

    points = grid_of(parsed_grid(vary), draws=draws, seed=seed)
    _run_trials(file, home, points, quiet=quiet, as_json=as_json)


def cross_validate(
    file: Annotated[Path, typer.Argument(help="The experiment as TOML.")],
    folds: Annotated[int, typer.Option("--folds", help="Into how many parts each node's data is cut.")] = 5,
    home: HomeOption = DEFAULT_HOME,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run an experiment once for each part of the data, held back for testing; those that are finished are not run again.

    Exits with 1 if one of them failed.
    """
    from researcher.trials import fold_points

    _run_trials(file, home, fold_points(folds), quiet=quiet, as_json=as_json)


def resume(
    directory: Annotated[Path, typer.Argument(help="The directory of the experiment.")],
    home: HomeOption = DEFAULT_HOME,
    rounds: Annotated[
        int | None, typer.Option("--rounds", help="Run so many more; up to the limit if not given.")
    ] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write the model here.")] = None,
    quiet: Quiet = False,
    board: Board = None,
    lines: Lines = False,
    as_json: AsJson = False,
) -> None:
    """Go on with an experiment where it stands, also inside a round."""
    from researcher.experiment import Experiment
    from researcher.ledger import Ledger

    Ledger.open(directory).close()  # what is wrong with it is said before a broker is looked for
    with entered(home) as federation:
        observers = _views(board, quiet=quiet, lines=lines, as_json=as_json)
        with Experiment.resume(directory, federation=federation, observers=observers) as experiment:
            experiment.run(rounds, increase=rounds is not None)
            _show_result(experiment, export, lines=lines, as_json=as_json)


def watch(
    directory: Directory,
    home: HomeOption = DEFAULT_HOME,
    quiet: Quiet = False,
    lines: Lines = False,
    as_json: AsJson = False,
) -> None:
    """Look on, from another terminal, at an experiment that runs; Ctrl-C ends the looking and not the experiment."""
    from researcher.dossier import Dossier
    from researcher.home import Home
    from researcher.monitoring.broadcast import watch as look_on

    dossier = Dossier.open(directory)
    experiment, name = dossier.row.id, dossier.row.name
    dossier.close()
    seen, views = 0, _views(None, quiet=quiet, lines=lines, as_json=as_json)
    for seen, event in enumerate(look_on(Home(home), experiment, name), 1):  # noqa: B007 - told below
        for view in views:
            view.on_event(event)
    if as_json:
        emit({"experiment": experiment, "name": name, "events": seen}, as_json=True)


def _run_trials(file: Path, home: Path, points: Sequence[Point], *, quiet: bool, as_json: bool) -> None:
    from researcher.experiment_file import load_experiment
    from researcher.monitoring import TerminalView
    from researcher.trials import run_trials

    with entered(home) as federation:
        observers = () if as_json else (TerminalView(quiet=quiet),)
        with load_experiment(file, federation, observers) as experiment:
            found = run_trials(experiment, points)
    summary = [
        {"metric": metric, "on": on, "mean": mean, "deviation": deviation, "variants": count}
        for (metric, on), (mean, deviation, count) in found.summary().items()
    ]
    emit(
        {"trials": found.rows(), "summary": summary},
        found,
        "",
        table(
            *("metric", "on", "mean", "deviation", "variants"),
            rows=[tuple(row.values()) for row in summary],
        ),
        as_json=as_json,
    )
    if any(trial.error for trial in found.trials):
        raise typer.Exit(FAILED)


def _show_approval(experiment: Experiment, note: str, *, as_json: bool) -> None:
    states = {node: reply.state.value for node, reply in experiment.request_approval(note).items()}
    emit(
        {"plan_hash": experiment.plan_hash, "nodes": states},
        f"plan {experiment.plan_hash}",
        table("node", "state", rows=states.items()),
        as_json=as_json,
    )


def _views(board: Path | None, *, quiet: bool, lines: bool, as_json: bool) -> tuple[Observer, ...]:
    """Return who shows what happens."""
    from researcher.monitoring import LinesView, TensorBoard, TerminalView

    boards = () if board is None else (TensorBoard(board),)
    if as_json:
        return boards
    return (*boards, LinesView() if lines else TerminalView(quiet=quiet))


def _show_result(experiment: Experiment, path: Path | None, *, lines: bool, as_json: bool) -> None:
    if path is not None:
        experiment.training_plan().export_model(path)
    if lines:
        return  # the last event has said it
    document = {**experiment.info(), "history": experiment.history().rows(), "model": path}
    text = f"{experiment.round_current()} rounds; everything is in {experiment.folder}"
    reason = experiment.stopped()
    emit(document, *([escape(reason)] if reason else []), text, as_json=as_json)
