"""Say in the words of the audit log what a node was asked, and what left it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from common.audit.record import Action, Entry
from common.ids import Digest, PartyId, TaskId
from common.messages import RunEnd, TaskCancel, TrainReply, TrainRequest
from node.registry import Dataset
from node.replies import share
from node.task_events import (
    Failure,
)

_NOTE: Final = 2000
"""Longest note of an entry; with more columns, the count tells the rest."""
LEAVES: Final = frozenset(
    {Action.UPDATE_RELEASED, Action.TASK_FAILED, Action.DATASETS_DESCRIBED, Action.AGENT_STARTED}
)
"""What must be on disk before anything leaves."""


def started(node: PartyId, settings: Path) -> Entry:
    """Return that the agent runs, and under which settings: the SHA-256 and size of its file."""
    content = settings.read_bytes()
    return Entry(
        action=Action.AGENT_STARTED,
        actor=node,
        digest=Digest(hashlib.sha256(content).hexdigest()),
        bytes=len(content),
        note=f"settings of {settings.name}",
    )


def task_entry(
    request: TrainRequest, task_id: TaskId, action: Action, *, by: PartyId, failure: Failure | None
) -> Entry:
    """Return that a task was asked for, or came to nothing; by which model, in digest and size, and why not."""
    asked = action is Action.TASK_ASKED
    return Entry(
        action=action,
        actor=by,
        outcome="done" if failure is None else "refused" if asked else "failed",
        code=failure.code if failure else None,
        experiment_id=request.experiment_id,
        run_id=request.run_id,
        round=request.round,
        task_id=task_id,
        plan_name=request.plan_name,
        plan_hash=request.plan_hash,
        dataset_id=next((one.dataset_id for one in request.assignments if one.task_id == task_id), None),
        parties=None if asked else (request.sender,),
        digest=request.model.sha256 if asked else None,
        bytes=request.model.size_bytes if asked else None,
    )


def update_entry(request: TrainRequest, reply: TrainReply, dataset: Dataset) -> Entry:
    """Return what leaves with the answer to a task: digest and size of the update, how many metrics, losses and moments, and of which sets."""
    told = (len(one.metrics) + (one.statistics is not None) for one in reply.validations)
    metrics = len(reply.losses) + sum(told) + len(reply.moments or ())
    notes = {
        "validated on data set": dataset.test and dataset.test.dataset_id,
        "joined with data set": dataset.joined and dataset.joined.dataset_id,
        "moments of columns": reply.moments and ", ".join(one.name for one in reply.moments),
    }
    return Entry(
        action=Action.UPDATE_RELEASED,
        actor=reply.sender,
        experiment_id=reply.experiment_id,
        run_id=reply.run_id,
        round=reply.round,
        task_id=reply.task_id,
        plan_name=request.plan_name,
        plan_hash=reply.plan_hash,
        dataset_id=share(request, reply.sender).dataset_id,
        parties=reply.recipients,
        digest=reply.update.sha256 if reply.update else None,
        bytes=reply.update.size_bytes if reply.update else 0,
        count=metrics,
        note="; ".join(f"{what} {which}" for what, which in notes.items() if which)[:_NOTE] or None,
    )


def run_entry(message: TaskCancel | RunEnd, action: Action, count: int | None = None) -> Entry:
    """Return that a researcher wants no more of a run, or of some tasks in it."""
    return Entry(
        action=action,
        actor=message.sender,
        experiment_id=message.experiment_id,
        run_id=message.run_id,
        count=count,
    )
