"""Offer the commands of a researcher: `warren-researcher`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from common import logs
from common.audit.cli import audit_app
from common.cli import FAILED, AsJson, emit, new_program, reported, table
from common.errors import HomeError, HomeInUseError
from common.security.cli import enrol_command
from researcher import oversight
from researcher.oversight import DEFAULT_HOME, HomeOption

if TYPE_CHECKING:
    from researcher.directory import NodeStatus
    from researcher.experiment import Experiment
    from researcher.federation import Federation
    from researcher.monitoring import Observer
    from researcher.trials import Point


def _audit_folder(path: Path) -> Path:
    from researcher.home import Home

    home = Home(path)
    if not home.kit.is_dir():
        raise HomeError(path=path, reason="it has no kit")
    return home.audit


app = new_program("Run experiments in a federation.")

Quiet = Annotated[bool, typer.Option("--quiet", help="Show only what goes wrong, and the end.")]
Board = Annotated[
    Path | None, typer.Option("--tensorboard", help="Write scalars below this folder for TensorBoard.")
]
Lines = Annotated[
    bool,
    typer.Option("--json-lines", help="Print each event as a line of JSON, as it happens, and nothing else."),
]


@app.command()
@reported
def init(
    home: Annotated[Path, typer.Argument(help="A new folder.")],
    kit: Annotated[Path, typer.Option("--kit", help="The kit that the federation operator made.")],
    as_json: AsJson = False,
) -> None:
    """Make a researcher's home from a kit."""
    from researcher.home import Home

    made = Home.init(home, kit)
    emit({"home": made.path}, f"{made.path} is ready; set WARREN_HOME to it", as_json=as_json)


def _install(home: Path, kit: Path) -> None:
    from researcher.home import Home

    Home.init(home, kit)


app.command("enroll")(enrol_command("researcher", _install))


@app.command()
@reported
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

    with _federation(home) as federation:
        observers = _views(board, quiet=quiet, lines=lines, as_json=as_json)
        with load_experiment(file, federation, observers) as experiment:
            if ask is not None:
                _show_approval(experiment, ask, as_json=as_json)
                return
            experiment.run()
            _show_result(experiment, export, lines=lines, as_json=as_json)


@app.command()
@reported
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


@app.command()
@reported
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


@app.command()
@reported
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


@app.command()
@reported
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
    with _federation(home) as federation:
        observers = _views(board, quiet=quiet, lines=lines, as_json=as_json)
        with Experiment.resume(directory, federation=federation, observers=observers) as experiment:
            experiment.run(rounds, increase=rounds is not None)
            _show_result(experiment, export, lines=lines, as_json=as_json)


@app.command()
@reported
def watch(
    directory: oversight.Directory,
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


@app.command()
@reported
def nodes(home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show every node of the federation: whether it is online, since when, and what it runs."""
    from researcher.opening import last_seen

    try:
        with _federation(home) as federation:
            found: dict[str, NodeStatus] = {str(node): one for node, one in federation.nodes().items()}
    except HomeInUseError:  # the process that has the home knows as well
        found = last_seen(home)
    rows = [_node_row(node, status) for node, status in sorted(found.items())]
    columns = ("node", "state", "since", "last seen", "version", "data sets", "running", "waiting")
    emit(
        {"nodes": rows},
        table(*columns, rows=[[row[name.replace(" ", "_")] for name in columns] for row in rows]),
        as_json=as_json,
    )


@app.command()
@reported
def datasets(
    tags: Annotated[
        list[str] | None, typer.Option("--tags", help="Only data sets that carry all of these.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the data sets of the nodes that are online; with tags, also what differs between nodes."""
    from researcher.training_data import TrainingData

    wanted = [tag for text in tags or () for tag in text.split(",") if tag]
    with _federation(home) as federation:
        found = federation.search(wanted) if wanted else federation.list()
    document = {node: [one.model_dump(mode="json") for one in some] for node, some in found.items()}
    rows = [
        (
            node,
            one.name,
            one.data_type,
            ", ".join(one.tags),
            " x ".join(map(str, one.shape)),
            ", ".join(column.name for column in one.columns),
            one.description if one.available else f"not available: it changed; {one.description}",
        )
        for node, some in found.items()
        for one in some
    ]
    view = table("node", "name", "type", "tags", "shape", "columns", "description", rows=rows)
    alone = {node: some[0] for node, some in found.items() if len(some) == 1}
    compared = TrainingData(alone if wanted else {})
    differences, common = compared.differences, compared.common_columns
    emit(
        {
            "datasets": document,
            "common_columns": list(common),
            "differences": [
                {"subject": one.subject, "found": {str(node): what for node, what in one.found.items()}}
                for one in differences
            ],
        },
        view,
        *([Text(f"the same everywhere: {', '.join(common) or 'no column'}")] if wanted and alone else []),
        *(Text(f"differs: {one}") for one in differences),
        as_json=as_json,
    )


@app.command()
@reported
def experiments(home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show the experiments of this home."""
    from researcher.catalogue import experiments_of
    from researcher.home import Home

    found = experiments_of(Home(home).experiments)
    rows = [
        (one["folder"], one["name"], one["rounds"], one["round_limit"], one["state"], one["created"])
        for one in found
    ]
    view = table("folder", "name", "rounds", "limit", "state", "created", rows=rows)
    emit({"experiments": found}, view, as_json=as_json)


@app.command()
@reported
def doctor(home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Look at kit, way to the broker, nodes, experiments and machine; exit with 1 if something is wrong."""
    from common.doctor import show
    from researcher.doctor import examine
    from researcher.home import Home

    logs.configure(stream=None)
    show(examine(Home(home)), as_json=as_json)


app.add_typer(audit_app(_audit_folder), name="audit")

for command in (
    oversight.status,
    oversight.cancel,
    oversight.branch,
    oversight.export,
    oversight.replay,
    oversight.quarantine,
):
    app.command()(reported(command))


@contextmanager
def _federation(home: Path) -> Iterator[Federation]:
    from researcher.federation import Federation
    from researcher.home import Home

    with Federation.open(home) as federation, logs.kept(Home(home).log):
        yield federation


def _run_trials(file: Path, home: Path, points: Sequence[Point], *, quiet: bool, as_json: bool) -> None:
    from researcher.experiment_file import load_experiment
    from researcher.monitoring import TerminalView
    from researcher.trials import run_trials

    with _federation(home) as federation:
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


def _node_row(node: str, status: NodeStatus) -> dict[str, Any]:
    info = status.info
    return {
        "node": node,
        "state": _state(status),
        "since": _moment(status.since),
        "last_seen": _moment(status.last_seen),
        "version": info and info.version,
        "python": info and info.python,
        "data_sets": info and info.datasets,
        "running": info and info.running,
        "waiting": info and info.waiting,
        "plan_approval": info and info.plan_approval,
    }


def _state(status: NodeStatus) -> str:
    if status.online is None:
        return "unknown"
    if status.last_seen is None:
        return "never seen"
    return "online" if status.online else "offline"


def _moment(unix: float | None) -> str | None:
    if unix is None:
        return None
    return datetime.datetime.fromtimestamp(unix).astimezone().isoformat(sep=" ", timespec="seconds")
