"""Offer the commands of a researcher: `warren-researcher`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from common.audit.cli import audit_app
from common.cli import AsJson, emit, new_app, reported, table
from common.errors import HomeError, HomeInUseError
from common.security.cli import enrol_command
from researcher import oversight
from researcher.oversight import DEFAULT_HOME, HomeOption

if TYPE_CHECKING:
    from researcher.directory import NodeStatus
    from researcher.experiment import Experiment
    from researcher.federation import Federation


def _audit_folder(path: Path) -> Path:
    from researcher.home import Home

    home = Home(path)
    if not home.kit.is_dir():
        raise HomeError(path=path, reason="it has no kit")
    return home.audit


app = new_app("Run experiments in a federation.")

Quiet = Annotated[bool, typer.Option("--quiet", help="Show only what goes wrong, and the end.")]


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
    as_json: AsJson = False,
) -> None:
    """Run an experiment from a file."""
    from researcher.experiment_file import load_experiment
    from researcher.monitoring import TerminalView

    with _federation(home) as federation:
        observers = () if as_json else (TerminalView(quiet=quiet),)
        with load_experiment(file, federation, observers) as experiment:
            if ask is not None:
                _show_approval(experiment, ask, as_json=as_json)
                return
            experiment.run()
            _show_result(experiment, export, as_json=as_json)


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
    as_json: AsJson = False,
) -> None:
    """Go on with an experiment where it stands, also inside a round."""
    from researcher.experiment import Experiment
    from researcher.ledger import Ledger
    from researcher.monitoring import TerminalView

    Ledger.open(directory).close()  # what is wrong with it is said before a broker is looked for
    with _federation(home) as federation:
        observers = () if as_json else (TerminalView(quiet=quiet),)
        with Experiment.resume(directory, federation=federation, observers=observers) as experiment:
            experiment.run(rounds, increase=rounds is not None)
            _show_result(experiment, export, as_json=as_json)


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
            one.description,
        )
        for node, some in found.items()
        for one in some
    ]
    view = table("node", "name", "type", "tags", "shape", "columns", "description", rows=rows)
    alone = {node: some[0] for node, some in found.items() if len(some) == 1}
    differences = TrainingData(alone).differences if wanted else ()
    emit(
        {
            "datasets": document,
            "differences": [
                {"subject": one.subject, "found": {str(node): what for node, what in one.found.items()}}
                for one in differences
            ],
        },
        view,
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

    with Federation.open(home) as federation:
        yield federation


def _show_approval(experiment: Experiment, note: str, *, as_json: bool) -> None:
    states = {node: reply.state.value for node, reply in experiment.request_approval(note).items()}
    emit(
        {"plan_hash": experiment.plan_hash, "nodes": states},
        f"plan {experiment.plan_hash}",
        table("node", "state", rows=states.items()),
        as_json=as_json,
    )


def _show_result(experiment: Experiment, path: Path | None, *, as_json: bool) -> None:
    if path is not None:
        experiment.training_plan().export_model(path)
    document = {**experiment.info(), "history": experiment.history().rows(), "model": path}
    text = f"{experiment.round_current()} rounds; everything is in {experiment.folder}"
    emit(document, text, as_json=as_json)


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
