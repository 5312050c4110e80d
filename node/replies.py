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


def task_timings(done: Done, received_at: float, waited_s: float, taken_s: float) -> TaskTimings:
    """Return how long the steps of a task took.

    Args:
        done: What the worker measured.
        received_at: Unix time at which the task came.
        waited_s: Until a worker had it, by the clock of the machine, which may have been set back.
        taken_s: What it took to keep what the worker made; a part of saving.
    """
    return TaskTimings(
        received_at=received_at,
        waited_s=max(0.0, waited_s),
        loaded_s=done.loaded_s,
        trained_s=done.trained_s,
        validated_s=done.validated_s,
        saved_s=done.saved_s + taken_s,
    )


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
        steps=done.steps,
        lr_sum=done.lr_sum,
        losses=done.losses,
        validations=done.validations,
        timings=timings,
        device=done.device,
        notice=done.notice,
        moments=done.moments,
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
