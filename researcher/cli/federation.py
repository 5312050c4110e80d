"""Offer the commands that show who is in the federation, and with which data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli import AsJson, emit, moment, plain, table
from common.errors import HomeInUseError
from researcher.cli.options import DEFAULT_HOME, HomeOption, entered

if TYPE_CHECKING:
    from researcher.directory import NodeStatus


def nodes(home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show every node of the federation: whether it is online, since when, and what it runs."""
    from researcher.opening import last_seen

    try:
        with entered(home) as federation:
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
    with entered(home) as federation:
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
        *([plain(f"the same everywhere: {', '.join(common) or 'no column'}")] if wanted and alone else []),
        *(plain(f"differs: {one}") for one in differences),
        as_json=as_json,
    )


def _node_row(node: str, status: NodeStatus) -> dict[str, Any]:
    info = status.info
    return {
        "node": node,
        "state": _state(status),
        "since": moment(status.since),
        "last_seen": moment(status.last_seen),
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
