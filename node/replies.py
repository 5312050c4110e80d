"""Compose what a node tells a researcher about one task."""

from __future__ import annotations

from common.errors import MalformedMessageError
from common.ids import PartyId, TaskId
from common.messages import (
    Assignment,
    LossPoint,
    PayloadManifest,
    TaskFailed,
    TaskProgress,
    TaskState,
    TaskTimings,
    TrainReply,
    TrainRequest,
)
from node.task_events import (
    Failure,
)
from node.worker.protocol import Done


def share(request: TrainRequest, node: PartyId) -> Assignment:
    """Return the node's share of a round.

    Raises:
        MalformedMessageError: If the request has none for this node.
    """
    for assignment in request.assignments:
        if assignment.node == node:
            return assignment
    raise MalformedMessageError(sender=request.sender, reason=f"it has no share for {node}")


def trained(
    node: PartyId, request: TrainRequest, done: Done, update: PayloadManifest | None, timings: TaskTimings
) -> TrainReply:
    """Return the answer to a task that a worker has finished."""
    return TrainReply(
        sender=node,
        recipients=(request.sender,),
        experiment_id=request.experiment_id,
        run_id=request.run_id,
        task_id=done.task_id,
        round=request.round,
        dataset_id=share(request, node).dataset_id,
        plan_hash=request.plan_hash,
        base=request.model.sha256,
        update=update,
        samples_seen=done.samples_seen,
        samples_train=done.samples_train,
        samples_test=done.samples_test,
        losses=done.losses,
        validations=done.validations,
        timings=timings,
    )


def failed(node: PartyId, request: TrainRequest, task_id: TaskId, failure: Failure) -> TaskFailed:
    """Return the answer to a task that came to nothing."""
    return TaskFailed(
        sender=node,
        recipients=(request.sender,),
        experiment_id=request.experiment_id,
        run_id=request.run_id,
        task_id=task_id,
        round=request.round,
        code=failure.code,
        text=failure.text,
        plan_line=failure.plan_line,
        final=failure.final,
    )


def progress(
    node: PartyId,
    request: TrainRequest,
    task_id: TaskId,
    losses: tuple[LossPoint, ...] = (),
    *,
    state: TaskState = TaskState.RUNNING,
) -> TaskProgress:
    """Return the news of how far a task is, with the losses since the last such news."""
    return TaskProgress(
        sender=node,
        recipients=(request.sender,),
        experiment_id=request.experiment_id,
        run_id=request.run_id,
        task_id=task_id,
        round=request.round,
        state=state,
        losses=losses,
    )
