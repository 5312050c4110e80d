"""Commands about the tasks that a node does for researchers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import AsJson, emit, moment, new_app, plain, reported, table
from node.cli.options import Home, person

if TYPE_CHECKING:
    from common.messages import LossPoint
    from node.steward.tasks import OpenTask, PastTask, Tasks

app = new_app("See what the node works on for researchers, and stop it.")

Past = Annotated[int, typer.Option(min=0, help="How many tasks that ended are shown, too.")]


@app.command("list")
@reported
def list_(home: Home, past: Past = 0, as_json: AsJson = False) -> None:
    """List the tasks that are not done with, and the last of those that ended."""
    tasks = _tasks(home)
    running, ended = tasks.open(), tasks.past(past).tasks if past else ()
    rows: list[tuple[object, ...]] = [
        (
            one.task_id,
            one.phase,
            one.researcher,
            one.plan_name,
            one.round,
            moment(one.received_at),
            _last(one.losses),
        )
        for one in running
    ]
    rows += [_past_row(one) for one in ended]
    columns = ("task", "state", "researcher", "plan", "round", "at", "loss")
    emit(
        {"open": [_open_document(one) for one in running], "past": [_past_document(one) for one in ended]},
        table(*columns, rows=rows) if rows else "no tasks",
        as_json=as_json,
    )


@app.command()
@reported
def cancel(
    home: Home,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its id, or enough of its last characters.")],
    as_json: AsJson = False,
) -> None:
    """Stop a task that is received, waiting or running; its researcher is told that the node stopped it."""
    task_id = _tasks(home).cancel(task)
    emit({"cancelled": task_id}, plain(f"the agent stops task {task_id}"), as_json=as_json)


def _tasks(home: Path) -> Tasks:
    """Return the tasks in the hands of the person at the keyboard."""
    from node.home import NodeHome
    from node.steward.tasks import Tasks

    return Tasks(NodeHome.open(home), person())


def _past_row(one: PastTask) -> tuple[object, ...]:
    asked, ended = one.asked, one.ended
    state = ended.code or "trained"
    researcher = asked.actor if asked else None
    return (
        ended.task_id,
        state,
        researcher,
        ended.plan_name,
        ended.round,
        moment(ended.at),
        _last(one.losses),
    )


def _open_document(one: OpenTask) -> dict[str, object]:
    from dataclasses import asdict

    document = asdict(one) | {"losses": [point.model_dump(mode="json") for point in one.losses]}
    return document | {"training_args": one.training_args.model_dump(mode="json", exclude_defaults=True)}


def _past_document(one: PastTask) -> dict[str, object]:
    asked, ended = one.asked, one.ended
    return {
        "asked": asked and asked.model_dump(mode="json", exclude_none=True),
        "ended": ended.model_dump(mode="json", exclude_none=True),
        "losses": [point.model_dump(mode="json") for point in one.losses],
    }


def _last(losses: tuple[LossPoint, ...]) -> str | None:
    told = [point.loss for point in losses if point.loss is not None]
    return f"{told[-1]:.4g}" if told else None
