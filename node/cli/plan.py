"""Commands about training plans: read what researchers want to run here, and decide."""

from __future__ import annotations

import ast
import getpass
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from common.cli import AsJson, emit, new_app, reported, table
from common.errors import PlanSourceError
from node.cli.options import Home, moment
from node.text import visible

if TYPE_CHECKING:
    from node.approval import Approvals, Decision, Plan

app = new_app("Read training plans and decide whether they may run here.")

Which = Annotated[str, typer.Argument(metavar="PLAN", help="Hash, or enough of its first characters.")]
Note = Annotated[str, typer.Option(help="Why; researchers see it.")]
SourceFile = Annotated[Path | None, typer.Option("--file", help="Approve the plan in this file instead.")]


@app.command("list")
@reported
def list_(home: Home, as_json: AsJson = False) -> None:
    """List the plans, the latest request first."""
    from node.approval import Approvals
    from node.home import NodeHome

    approvals = Approvals(NodeHome.open(home).registry_path)
    try:
        found = approvals.list()
    finally:
        approvals.close()
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
    """Show one plan: its source with line numbers, and every step that was taken about it."""
    from node.approval import Approvals
    from node.home import NodeHome

    approvals = Approvals(NodeHome.open(home).registry_path)
    try:
        plan = approvals.find(which)
        history = approvals.history(plan.plan_hash)
    finally:
        approvals.close()
    steps = [(moment(event.at), event.state, event.actor, visible(event.note)) for event in history]
    emit(
        _document(plan) | {"source": plan.source, "history": [asdict(event) for event in history]},
        Text(_numbered(plan.source)),
        "",
        Text(f"{visible(plan.name)} is {plan.state}; hash {plan.plan_hash}"),
        table("on", "step", "by", "note", rows=steps),
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
    as_json: AsJson = False,
) -> None:
    """Let a plan run here: one that was asked for, or one in a file."""
    from common.messages import PlanState
    from node.approval import Approvals
    from node.home import NodeHome

    if (which is None) == (file is None):
        raise typer.BadParameter("give either PLAN or --file")
    approvals = Approvals(NodeHome.open(home).registry_path)
    try:
        if file is not None:
            plan = _approve_file(approvals, file, note)
        else:
            plan = _decide(approvals, which or "", PlanState.APPROVED, note)
    finally:
        approvals.close()
    _tell(plan, as_json)


@app.command()
@reported
def reject(home: Home, which: Which, note: Note = "", as_json: AsJson = False) -> None:
    """Forbid a plan to run here."""
    from common.messages import PlanState
    from node.approval import Approvals
    from node.home import NodeHome

    approvals = Approvals(NodeHome.open(home).registry_path)
    try:
        plan = _decide(approvals, which, PlanState.REJECTED, note)
    finally:
        approvals.close()
    _tell(plan, as_json)


def _decide(approvals: Approvals, prefix: str, state: Decision, note: str) -> Plan:
    """Record a decision about the plan whose hash starts like this."""
    return approvals.decide(approvals.find(prefix).plan_hash, state, by=_person(), note=note)


def _approve_file(approvals: Approvals, file: Path, note: str) -> Plan:
    """Approve the plan in a file."""
    source, name = _read(file)
    return approvals.approve_source(source, name=name, by=_person(), note=note)


def _read(file: Path) -> tuple[str, str]:
    """Return the source in a file, and the name of the last class in it, which is the plan."""
    try:
        source = file.read_text(encoding="utf-8")
        classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    except OSError as error:
        raise PlanSourceError(plan=file, reason=error.strerror) from error
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise PlanSourceError(plan=file, reason="it is not Python") from error
    if not classes:
        raise PlanSourceError(plan=file, reason="it defines no class")
    return source, classes[-1]


def _person() -> str:
    """Return who is at the keyboard, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid {os.getuid()}"


def _tell(plan: Plan, as_json: bool) -> None:
    emit(
        _document(plan),
        Text(f"{visible(plan.name)} ({plan.plan_hash[:12]}) is {plan.state}"),
        as_json=as_json,
    )


def _document(plan: Plan) -> dict[str, object]:
    """Return a plan for programs, without its source."""
    document = asdict(plan)
    del document["source"]
    return document


def _numbered(source: str) -> str:
    """Return a source with line numbers, in which nothing can hide."""
    lines = source.rstrip("\n").split("\n")
    width = len(str(len(lines)))
    return "\n".join(f"{number:>{width}}  {visible(line)}" for number, line in enumerate(lines, start=1))
