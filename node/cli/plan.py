"""Commands about training plans: read what researchers want to run here, and decide."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from common.cli import AsJson, emit, new_app, reported, table
from common.errors import PlanSourceError
from node.cli.options import Home, moment, person
from node.plan_report import difference, report
from node.text import visible

if TYPE_CHECKING:
    from common.audit.log import AuditLog
    from node.approval import Plan
    from node.argument_limits import Limit

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
    """Show one plan: its source, what to look at in it, how it differs from the one approved before, every step taken about it."""
    from node.approval import Approvals
    from node.home import NodeHome

    approvals = Approvals(NodeHome.open(home).registry_path)
    try:
        plan = approvals.find(which)
        history = approvals.history(plan.plan_hash)
        before = approvals.approved_before(plan)
    finally:
        approvals.close()
    remarks = report(plan.source)
    changes = _changes(plan, before)
    steps = [
        (moment(event.at), event.state, event.actor, _bound(event.limits), visible(event.note))
        for event in history
    ]
    document = _document(plan) | {
        "source": plan.source,
        "report": [asdict(remark) for remark in remarks],
        "approved_before": before and before.plan_hash,
        "difference": changes,
        "history": [asdict(event) | {"limits": list(map(str, event.limits))} for event in history],
    }
    difference_view = (Text("\n".join(map(visible, changes))), Text()) if changes else ()
    rows = [(remark.line, remark.concern, visible(remark.name)) for remark in remarks]
    emit(
        document,
        Text(_numbered(plan.source)),
        "",
        *difference_view,
        Text("What to look at (a hint, not a proof: a plan can hide what it does):"),
        table("line", "why", "what", rows=rows),
        "",
        Text(f"{visible(plan.name)} is {plan.state}; hash {plan.plan_hash}"),
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
    from common.messages import PlanState
    from node.approval import Approvals
    from node.argument_limits import parse_limits
    from node.home import NodeHome

    if (which is None) == (file is None):
        raise typer.BadParameter("give either PLAN or --file")
    node, limits = NodeHome.open(home), parse_limits(limit or ())
    witness, approvals = _witness(node.audit()), Approvals(node.registry_path)
    try:
        if file is not None:
            source, name = _read(file)
            plan = approvals.approve_source(
                source, name=name, by=person(), note=note, limits=limits, witness=witness
            )
        else:
            known = approvals.find(which or "").plan_hash
            plan = approvals.decide(
                known, PlanState.APPROVED, by=person(), note=note, limits=limits, witness=witness
            )
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

    node = NodeHome.open(home)
    witness, approvals = _witness(node.audit()), Approvals(node.registry_path)
    try:
        known = approvals.find(which).plan_hash
        plan = approvals.decide(known, PlanState.REJECTED, by=person(), note=note, witness=witness)
    finally:
        approvals.close()
    _tell(plan, as_json)


def _witness(audit: AuditLog) -> Callable[[Plan], None]:
    """Return what records a decision, with its limits, before it counts."""
    from common.audit.record import Action, Entry
    from common.messages import PlanState

    def record(plan: Plan) -> None:
        approved = plan.state is PlanState.APPROVED
        entry = Entry(
            action=Action.PLAN_APPROVED if approved else Action.PLAN_REJECTED,
            actor=f"person {plan.decided_by}",
            plan_name=plan.name,
            plan_hash=plan.plan_hash,
            note="; ".join(filter(None, [plan.decision_note, _bound(plan.limits)]))[:2000] or None,
        )
        audit.append(entry)

    return record


def _changes(plan: Plan, before: Plan | None) -> list[str]:
    """Return how a plan differs from another of its name."""
    if before is None:
        return []
    names = (f"{one.name} {one.plan_hash[:12]}" for one in (before, plan))
    return difference(before.source, plan.source, before_name=next(names), after_name=next(names))


def _bound(limits: tuple[Limit, ...]) -> str:
    return ", ".join(map(str, limits))


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


def _tell(plan: Plan, as_json: bool) -> None:
    bound = _bound(plan.limits)
    emit(
        _document(plan),
        Text(f"{visible(plan.name)} ({plan.plan_hash[:12]}) is {plan.state}{bound and f' for {bound}'}"),
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
