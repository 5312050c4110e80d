"""Commands about the data sets of a node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from common.cli import AsJson, emit, new_app, reported, table
from common.errors import InvalidDatasetError
from node.cli.options import Home, moment, person

if TYPE_CHECKING:
    from common.audit.record import Action, Entry
    from node.registry import Dataset

app = new_app("Register data sets, and show or forget them; the files stay where they are.")

Which = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id.")]


@app.command()
@reported
def add(
    home: Home,
    path: Annotated[Path | None, typer.Option(help="The file: csv, tsv or parquet.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name, unique at this node.")] = None,
    tags: Annotated[str | None, typer.Option(help="What searches find it by: a,b,c.")] = None,
    description: Annotated[str | None, typer.Option(help="What it holds, for people.")] = None,
    type_: Annotated[str, typer.Option("--type", help="Its kind.")] = "tabular",
    as_json: AsJson = False,
) -> None:
    """Check a data set and register it; asks for what is missing."""
    from common.audit.record import Action
    from node.home import NodeHome
    from node.registry import Registry

    node = NodeHome.open(home)
    audit, minimum = node.audit(), node.policy().minimum_samples
    given = {"path": str(path) if path else None, "name": name, "tags": tags, "description": description}
    texts = _complete(given, ask=sys.stdin.isatty() and not as_json)
    registry = Registry(node.registry_path)
    try:
        dataset = registry.add(
            Path(texts["path"]),
            name=texts["name"],
            tags=texts["tags"].split(","),
            description=texts["description"],
            data_type=type_,
            minimum_samples=minimum,
            witness=lambda made: audit.append(_entry(Action.DATASET_REGISTERED, made)),
        )
    finally:
        registry.close()
    emit(_document(dataset), Text(f"registered {dataset.name}"), *_views(dataset), as_json=as_json)


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


def _complete(given: dict[str, str | None], *, ask: bool) -> dict[str, str]:
    """Return all answers, asking for the missing ones if there is somebody to ask."""
    missing = [key for key, value in given.items() if not value]
    if missing and not ask:
        raise InvalidDatasetError(reason=f"missing {', '.join(f'--{key}' for key in missing)}")
    hints = {"tags": "tags, separated by commas"}
    return {key: value or typer.prompt(hints.get(key, key)) for key, value in given.items()}


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
        ("added", moment(dataset.added_at)),
    ]
    columns = [(column.name, column.dtype, column.missing) for column in dataset.columns]
    return [table("", "", rows=facts), table("column", "type", "missing", rows=columns)]
