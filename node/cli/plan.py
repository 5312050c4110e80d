"""Commands about training plans: read what researchers want to run here, and decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import AsJson, emit, moment, new_app, plain, reported, table
from common.text import visible
from node.cli.options import Home, person

if TYPE_CHECKING:
    from node.approval import Plan
    from node.argument_limits import Limit
    from node.steward.plans import Plans

app = new_app("Read training plans and decide whether they may run here.")

Which = Annotated[str, typer.Argument(metavar="PLAN", help="Hash, or enough of its first characters.")]
Note = Annotated[str, typer.Option(help="Why; researchers see it.")]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="LIMIT",
        help="Bound on an argument, such as 'epochs<=5' or 'optimizer_args.lr<=0.1'; may be repeated.",
    ),
]
SourceFile = Annotated[Path | None, typer.Option("--file", help="Approve the plan in this file instead.")]


@app.command("list")
@reported
def list_(home: Home, as_json: AsJson = False) -> None:
    """List the plans, the latest request first."""
    found = _plans(home).list()
    rows = [
        (
            plan.plan_hash[:12],
            visible(plan.name),
            plan.state,
            plan.requested_by,
            moment(plan.requested_at),
            visible(plan.request_note),
        )
        for plan in found
    ]
    emit(
        [_document(plan) for plan in found],
        table("hash", "plan", "state", "asked by", "on", "note", rows=rows) if rows else "no plans yet",
        as_json=as_json,
    )


@app.command()
@reported
def show(home: Home, which: Which, as_json: AsJson = False) -> None:
    """Show one plan: its source, what to look at in it, how it differs from the one approved before, every step taken about it."""
    reading = _plans(home).read(which)
    plan, changes = reading.plan, reading.difference
    steps = [
        (moment(event.at), event.state, event.actor, _bound(event.limits), visible(event.note))
        for event in reading.history
    ]
    document = _document(plan) | {
        "source": plan.source,
        "report": [asdict(remark) for remark in reading.remarks],
        "approved_before": reading.before and reading.before.plan_hash,
        "difference": changes,
        "history": [asdict(event) | {"limits": list(map(str, event.limits))} for event in reading.history],
    }
    difference_view = (plain("\n".join(changes)), "") if changes else ()
    rows = [(remark.line, remark.concern, visible(remark.name)) for remark in reading.remarks]
    emit(
        document,
        plain(_numbered(plan.source)),
        "",
        *difference_view,
        plain("What to look at (a hint, not a proof: a plan can hide what it does):"),
        table("line", "why", "what", rows=rows),
        "",
        plain(f"{visible(plan.name)} is {plan.state}; hash {plan.plan_hash}"),
        table("on", "step", "by", "limits", "note", rows=steps),
        as_json=as_json,
    )


@app.command()
@reported
def approve(
    home: Home,
    which: Annotated[
        str | None, typer.Argument(metavar="PLAN", help="Hash, or its first characters.")
    ] = None,
    file: SourceFile = None,
    note: Note = "",
    limit: Limits = None,
    as_json: AsJson = False,
) -> None:
    """Let a plan run here: one that was asked for, or one in a file; with limits, only with arguments that keep to them."""
    if (which is None) == (file is None):
        raise typer.BadParameter("give either PLAN or --file")
    plans = _plans(home)
    if file is not None:
        plan = plans.approve_file(file, note=note, limits=limit or ())
    else:
        plan = plans.approve(which or "", note=note, limits=limit or ())
    _tell(plan, as_json)


@app.command()
@reported
def reject(home: Home, which: Which, note: Note = "", as_json: AsJson = False) -> None:
    """Forbid a plan to run here."""
    _tell(_plans(home).reject(which, note=note), as_json)


def _plans(home: Path) -> Plans:
    """Return the plans in the hands of the person at the keyboard."""
    from node.home import NodeHome
    from node.steward.plans import Plans

    return Plans(NodeHome.open(home), person())


def _bound(limits: Sequence[Limit]) -> str:
    return ", ".join(map(str, limits))


def _tell(plan: Plan, as_json: bool) -> None:
    bound = _bound(plan.limits)
    emit(
        _document(plan),
        plain(f"{visible(plan.name)} ({plan.plan_hash[:12]}) is {plan.state}{bound and f' for {bound}'}"),
        as_json=as_json,
    )


def _document(plan: Plan) -> dict[str, object]:
    """Return a plan for programs, without its source."""
    document = asdict(plan) | {"limits": list(map(str, plan.limits))}
    del document["source"]
    return document


def _numbered(source: str) -> str:
    """Return a source with line numbers, in which nothing can hide."""
    lines = source.rstrip("\n").split("\n")
    width = len(str(len(lines)))
    return "\n".join(f"{number:>{width}}  {visible(line)}" for number, line in enumerate(lines, start=1))
