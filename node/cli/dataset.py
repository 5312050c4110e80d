"""Commands about the data sets of a node."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from common.cli import FAILED, AsJson, emit, moment, new_app, plain, reported, table
from common.text import visible_lines
from node.cli.options import Home, person
from node.cli.registration import OptionTexts, from_file, from_terminal, options_of

if TYPE_CHECKING:
    from node.dataset import Dataset
    from node.steward.datasets import Datasets

app = new_app("Register data sets, and show or forget them; the files stay where they are.")

Which = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id.")]
LoadingName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Take kind and options of this data-loading plan.")
]
_WATCH = (
    "Let the agent look out for changes of its files, and use it no more until it was checked or updated."
)


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
    loading: LoadingName = None,
    watch: Annotated[bool, typer.Option("--watch", help=_WATCH)] = False,
    from_: Annotated[Path | None, typer.Option("--from", help="A TOML file that says all of this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a data set and register it; asks for what is missing, and for all of it, step by step, without a path."""
    from dataclasses import replace

    from node.steward.datasets import NewDataset

    datasets, asks = _datasets(home), sys.stdin.isatty() and not as_json
    given = {"path": str(path) if path else None, "name": name, "tags": tags, "description": description}
    if asks and path is None and from_ is None and not option and loading is None:
        _register_in_dialogue(datasets, given | {"type": type_, "watch": "yes" if watch else None})
        return
    if from_ is not None:
        wish = from_file(from_)
    else:
        texts = from_terminal(given, ask=asks)
        tag_texts = tuple(texts["tags"].split(","))
        wish = NewDataset(Path(texts["path"]), texts["name"], tag_texts, texts["description"], type_)
    dataset = datasets.add(
        replace(
            wish,
            options={**wish.options, **options_of(option or ())},
            loading=loading or wish.loading,
            watched=watch or wish.watched,
        )
    )
    emit(_document(dataset), plain(f"registered {dataset.name}"), *_views(dataset), as_json=as_json)


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
    loading: LoadingName = None,
    watch: Annotated[bool | None, typer.Option("--watch/--no-watch", help=_WATCH)] = None,
    as_json: AsJson = False,
) -> None:
    """Look into a data set again and register it as it is now; what is not given stays.

    With another content or other options it gets another id: experiments that count on the old one are refused.
    """
    from node.steward.datasets import Changes

    changes = Changes(
        path=path,
        name=name,
        tags=None if tags is None else tuple(tags.split(",")),
        description=description,
        options=options_of(option) if option else None,
        loading=loading,
        watched=watch,
    )
    made = _datasets(home).update(which, changes)
    new = ", which is another data set now" if made.is_another else ""
    emit(
        _document(made.dataset),
        plain(f"updated {made.dataset.name}{new}"),
        *_views(made.dataset),
        as_json=as_json,
    )


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
    found = _datasets(home).check(thorough=thorough)
    rows = [
        (one.dataset.name, one.dataset.samples, str(one.problem) if one.problem else "as registered")
        for one in found
    ]
    document = [
        {
            "name": one.dataset.name,
            "samples": one.dataset.samples,
            "error": one.problem
            and {"code": one.problem.code, "text": str(one.problem), "remedy": one.problem.advice},
        }
        for one in found
    ]
    view = table("name", "samples", "state", rows=rows) if rows else "no data sets yet"
    emit({"datasets": document}, view, as_json=as_json)
    if any(one.problem for one in found):
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
    found = _datasets(home).preview(which, rows)
    names = list(dict.fromkeys(name for one in found for name in one))
    view = table(*names, rows=[[one.get(name) for name in names] for one in found])
    emit({"samples": found}, view, as_json=as_json)


@app.command("list")
@reported
def list_(home: Home, as_json: AsJson = False) -> None:
    """List the data sets."""
    found = _datasets(home).list()
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
    dataset = _datasets(home).show(which)
    emit(_document(dataset), *_views(dataset), as_json=as_json)


@app.command()
@reported
def remove(home: Home, which: Which, as_json: AsJson = False) -> None:
    """Forget a data set; its file stays."""
    dataset = _datasets(home).remove(which)
    emit(
        {"removed": dataset.dataset_id},
        plain(f"forgot {dataset.name}; {dataset.path} stays"),
        as_json=as_json,
    )


def _register_in_dialogue(datasets: Datasets, given: Mapping[str, str | None]) -> None:
    """Ask for all that a data set needs, and register it unless the person gives up."""
    from node.cli.wizard import Wizard

    said = {key: value for key, value in given.items() if value}
    dataset = Wizard(datasets, _Keyboard(), said).run()
    if dataset is None:
        emit({}, "nothing was registered", as_json=False)
        raise typer.Exit(FAILED)
    emit({}, plain(f"registered {dataset.name}"), *_views(dataset), as_json=False)


class _Keyboard:
    """The person at this terminal."""

    def ask(self, prompt: str, default: str) -> str:
        return str(typer.prompt(prompt, default=default, show_default=bool(default)))

    def say(self, text: str) -> None:
        typer.echo(visible_lines(text))


def _datasets(home: Path) -> Datasets:
    """Return the data sets in the hands of the person at the keyboard."""
    from node.home import NodeHome
    from node.steward.datasets import Datasets

    return Datasets(NodeHome.open(home), person())


def _document(dataset: Dataset) -> dict[str, object]:
    """Return a data set for programs of this node; unlike others, they may know the path."""
    return dataset.describe().model_dump(mode="json") | {
        "path": dataset.path,
        "parameters": dict(dataset.parameters),
        "loading": dataset.loading,
        "watched": dataset.watched,
        "changed_at": dataset.changed_at,
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
        ("loading plan", dataset.loading),
        ("watched", "yes" if dataset.watched else "no"),
        *([("changed", moment(dataset.changed_at))] if dataset.changed_at is not None else []),
        ("added", moment(dataset.added_at)),
    ]
    columns = [(column.name, column.dtype, column.missing, column.unit or None) for column in dataset.columns]
    return [table("", "", rows=facts), table("column", "type", "missing", "unit", rows=columns)]
