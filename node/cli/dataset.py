"""Commands about the data sets of a node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from common.cli import FAILED, AsJson, emit, new_app, reported, table
from common.errors import DataError
from node.cli.options import Home, moment, person
from node.cli.registration import OptionTexts, Registration, from_file, from_terminal, options_of

if TYPE_CHECKING:
    from common.audit.record import Action, Entry
    from node.registry import Dataset, Registry

app = new_app("Register data sets, and show or forget them; the files stay where they are.")

Which = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id.")]


@app.command()
@reported
def add(
    home: Home,
    path: Annotated[Path | None, typer.Option(help="The file or folder.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name, unique at this node.")] = None,
    tags: Annotated[str | None, typer.Option(help="What searches find it by: a,b,c.")] = None,
    description: Annotated[str | None, typer.Option(help="What it holds, for people.")] = None,
    type_: Annotated[
        str | None,
        typer.Option("--type", help="Its kind; found out from the names of its files if not given."),
    ] = None,
    option: OptionTexts = None,
    like: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Take kind and options of this registered set.")
    ] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="A TOML file that says all of this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a data set and register it; asks for what is missing."""
    from common.audit.record import Action
    from common.datasets.families.detection import detected
    from node.home import NodeHome
    from node.registry import Registry

    node = NodeHome.open(home)
    audit, minimum = node.audit(), node.policy().minimum_samples
    if from_ is not None:
        said = from_file(from_)
    else:
        given = {"path": str(path) if path else None, "name": name, "tags": tags, "description": description}
        texts = from_terminal(given, ask=sys.stdin.isatty() and not as_json)
        said = Registration(
            path=Path(texts["path"]),
            name=texts["name"],
            tags=tuple(texts["tags"].split(",")),
            description=texts["description"],
            type=type_,
        )
    registry = Registry(node.registry_path)
    try:
        model = registry.find(like) if like else None
        place = said.path.expanduser()
        dataset = registry.add(
            place,
            name=said.name,
            tags=said.tags,
            description=said.description,
            data_type=said.type or (model.data_type if model else detected(place)),
            parameters={**(model.parameters if model else {}), **said.options, **options_of(option or ())},
            minimum_samples=minimum,
            witness=lambda made: audit.append(_entry(Action.DATASET_REGISTERED, made)),
        )
    finally:
        registry.close()
    emit(_document(dataset), Text(f"registered {dataset.name}"), *_views(dataset), as_json=as_json)


@app.command()
@reported
def update(
    home: Home,
    which: Which,
    path: Annotated[Path | None, typer.Option(help="Where it lies now.")] = None,
    name: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    tags: Annotated[str | None, typer.Option(help="Its new tags: a,b,c.")] = None,
    description: Annotated[str | None, typer.Option(help="Its new description.")] = None,
    option: OptionTexts = None,
    as_json: AsJson = False,
) -> None:
    """Look into a data set again and register it as it is now; what is not given stays.

    With another content or other options it gets another id: experiments that count on the old one are refused.
    """
    from common.audit.record import Action
    from node.home import NodeHome
    from node.registry import Registry

    node = NodeHome.open(home)
    audit, minimum = node.audit(), node.policy().minimum_samples
    registry = Registry(node.registry_path)
    try:
        dataset = registry.find(which)
        made = registry.update(
            dataset,
            name=name,
            tags=None if tags is None else tags.split(","),
            description=description,
            path=path,
            parameters={**dataset.parameters, **options_of(option)} if option else None,
            minimum_samples=minimum,
            witness=lambda one: audit.append(_entry(Action.DATASET_UPDATED, one)),
        )
    finally:
        registry.close()
    new = "" if made.dataset_id == dataset.dataset_id else ", which is another data set now"
    emit(_document(made), Text(f"updated {made.name}{new}"), *_views(made), as_json=as_json)


@app.command()
@reported
def check(
    home: Home,
    thorough: Annotated[
        bool, typer.Option(help="Read all files again, even where no size or time has changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that the files of every data set are those that were registered; exits with 1 if some are not."""
    from node.home import NodeHome
    from node.registry import Registry

    registry = Registry(NodeHome.open(home).registry_path)
    found: list[dict[str, object]] = []
    try:
        for dataset in registry.list():
            problem = _problem(registry, dataset, thorough=thorough)
            error = problem and {"code": problem.code, "text": str(problem), "remedy": problem.advice}
            found.append({"name": dataset.name, "samples": dataset.samples, "error": error})
    finally:
        registry.close()
    view = table(
        "name",
        "samples",
        "state",
        rows=[
            (one["name"], one["samples"], "as registered" if one["error"] is None else _told(one["error"]))
            for one in found
        ],
    )
    emit({"datasets": found}, view if found else "no data sets yet", as_json=as_json)
    if any(one["error"] for one in found):
        raise typer.Exit(FAILED)


@app.command()
@reported
def preview(
    home: Home,
    which: Which,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many samples.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show the first samples of a data set on this screen; nothing leaves the node."""
    from common.datasets.families import family
    from common.datasets.families.base import parsed
    from node.home import NodeHome
    from node.registry import Registry

    registry = Registry(NodeHome.open(home).registry_path)
    try:
        dataset = registry.find(which)
    finally:
        registry.close()
    kind = family(dataset.data_type)
    found = kind.preview(dataset.path, parsed(kind.options, dataset.parameters), rows)
    names = list(dict.fromkeys(name for one in found for name in one))
    view = table(*names, rows=[[one.get(name) for name in names] for one in found])
    emit({"samples": found}, view, as_json=as_json)


@app.command("list")
@reported
def list_(home: Home, as_json: AsJson = False) -> None:
    """List the data sets."""
    from node.home import NodeHome
    from node.registry import Registry

    registry = Registry(NodeHome.open(home).registry_path)
    try:
        found = registry.list()
    finally:
        registry.close()
    rows = [
        (dataset.name, dataset.data_type, ", ".join(dataset.tags), dataset.samples, dataset.path)
        for dataset in found
    ]
    emit(
        [_document(dataset) for dataset in found],
        table("name", "type", "tags", "samples", "path", rows=rows) if rows else "no data sets yet",
        as_json=as_json,
    )


@app.command()
@reported
def show(home: Home, which: Which, as_json: AsJson = False) -> None:
    """Show one data set, and check that its file is as it was registered."""
    from node.home import NodeHome
    from node.registry import Registry

    registry = Registry(NodeHome.open(home).registry_path)
    try:
        dataset = registry.find(which)
        registry.check(dataset)
    finally:
        registry.close()
    emit(_document(dataset), *_views(dataset), as_json=as_json)


@app.command()
@reported
def remove(home: Home, which: Which, as_json: AsJson = False) -> None:
    """Forget a data set; its file stays."""
    from common.audit.record import Action
    from node.home import NodeHome
    from node.registry import Registry

    node = NodeHome.open(home)
    audit, registry = node.audit(), Registry(node.registry_path)
    try:
        dataset = registry.find(which)
        registry.remove(
            dataset.dataset_id, witness=lambda: audit.append(_entry(Action.DATASET_REMOVED, dataset))
        )
    finally:
        registry.close()
    emit(
        {"removed": dataset.dataset_id},
        Text(f"forgot {dataset.name}; {dataset.path} stays"),
        as_json=as_json,
    )


def _entry(action: Action, dataset: Dataset) -> Entry:
    """Return what is recorded about a data set: its file's digest and size, and its number of samples."""
    from common.audit.record import Entry

    return Entry(
        action=action,
        actor=f"person {person()}",
        dataset_id=dataset.dataset_id,
        digest=dataset.fingerprint.sha256,
        bytes=dataset.fingerprint.size_bytes,
        count=dataset.samples,
        note=dataset.name,
    )


def _problem(registry: Registry, dataset: Dataset, *, thorough: bool) -> DataError | None:
    try:
        registry.check(dataset, thorough=thorough)
    except DataError as error:
        return error
    return None


def _told(error: object) -> str:
    return str(error["text"]) if isinstance(error, dict) else str(error)


def _document(dataset: Dataset) -> dict[str, object]:
    """Return a data set for programs of this node; unlike others, they may know the path."""
    return dataset.describe().model_dump(mode="json") | {
        "path": dataset.path,
        "parameters": dict(dataset.parameters),
        "added_at": dataset.added_at,
        "sha256": dataset.fingerprint.sha256,
    }


def _views(dataset: Dataset) -> list[Table]:
    """Return a data set for people."""
    facts = [
        ("id", dataset.dataset_id),
        ("type", dataset.data_type),
        ("tags", ", ".join(dataset.tags)),
        ("description", dataset.description),
        ("path", dataset.path),
        ("samples", dataset.samples),
        ("left out", dataset.left_out),
        ("classes", ", ".join(dataset.classes) or None),
        *((f"option {name}", value) for name, value in sorted(dataset.parameters.items())),
        ("added", moment(dataset.added_at)),
    ]
    columns = [(column.name, column.dtype, column.missing, column.unit or None) for column in dataset.columns]
    return [table("", "", rows=facts), table("column", "type", "missing", "unit", rows=columns)]
