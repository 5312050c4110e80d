"""Commands about data-loading plans: options under a name, for one data set after another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import AsJson, emit, moment, new_app, plain, reported, table
from node.cli.options import Home, person
from node.cli.registration import OptionTexts, options_of

if TYPE_CHECKING:
    from node.loading import LoadingPlan
    from node.steward.loading import Loading, Use

app = new_app("Keep options under a name, and register data sets with them: data-loading plans.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]


@app.command()
@reported
def save(
    home: Home,
    name: Name,
    type_: Annotated[
        str | None, typer.Option("--type", help="The kind of data set that the options are of.")
    ] = None,
    option: OptionTexts = None,
    of: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Take kind and options of this registered set instead."),
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for, for people.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep options under a new name; `dataset add --loading NAME` registers a set with them."""
    if (type_ is None) == (of is None) or (of is not None and option):
        raise typer.BadParameter("give either --type with its --option, or --of")
    loading = _loading(home)
    if of is not None:
        plan = loading.save_of(name, of, description=description)
    else:
        plan = loading.save(name, type_ or "", options_of(option or ()), description=description)
    emit(_document(plan), plain(f"saved {plan.name}"), as_json=as_json)


@app.command("list")
@reported
def list_(home: Home, as_json: AsJson = False) -> None:
    """List the plans, and the data sets whose options they made."""
    found = _loading(home).list()
    rows = [
        (use.plan.name, use.plan.data_type, ", ".join(use.datasets) or None, use.plan.description)
        for use in found
    ]
    emit(
        [_used(use) for use in found],
        table("name", "type", "data sets", "description", rows=rows) if rows else "no data-loading plans yet",
        as_json=as_json,
    )


@app.command()
@reported
def show(home: Home, name: Name, as_json: AsJson = False) -> None:
    """Show one plan."""
    use = _loading(home).show(name)
    plan = use.plan
    facts = [
        ("type", plan.data_type),
        ("description", plan.description),
        ("saved", f"{moment(plan.saved_at)} by {plan.saved_by}"),
        ("data sets", ", ".join(use.datasets) or None),
        *((f"option {key}", value) for key, value in sorted(plan.options.items())),
    ]
    emit(_used(use), table("", "", rows=facts), as_json=as_json)


@app.command()
@reported
def remove(home: Home, name: Name, as_json: AsJson = False) -> None:
    """Forget a plan that no data set uses."""
    _loading(home).remove(name)
    emit({"removed": name}, plain(f"forgot {name}"), as_json=as_json)


def _loading(home: Path) -> Loading:
    """Return the data-loading plans in the hands of the person at the keyboard."""
    from node.home import NodeHome
    from node.steward.loading import Loading

    return Loading(NodeHome.open(home), person())


def _used(use: Use) -> dict[str, object]:
    return _document(use.plan) | {"datasets": list(use.datasets)}


def _document(plan: LoadingPlan) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(plan)
