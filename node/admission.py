"""Decide whether a node does what a researcher asks."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from common.clock import Clock
from common.errors import (
    DataError,
    DataFileGoneError,
    DatasetNotOnNodeError,
    NoSuchDatasetError,
    PlanError,
    PlanHashError,
    TaskError,
    TaskRefusedError,
)
from common.ids import PartyId
from common.messages import Assignment, PlanState, TrainRequest
from common.training_plans.source import plan_hash
from node.approval import Approvals
from node.argument_limits import check_limits
from node.dataset import Dataset
from node.policy import Policy
from node.registry import Registry
from node.replies import share
from node.task_events import Failure, Task

log = logging.getLogger(__name__)

STALE_AFTER_S: Final = 28 * 86400.0
"""Age at which a request is of no use any more, whatever its deadline: the journal knows longer than that which ones are done."""

_CLOCKS_DIFFER_S: Final = 86400.0
"""A request from further in the future would be fresh for too long."""


def task_of(request: TrainRequest, assignment: Assignment, received_at: float) -> Task:
    """Return the task that a share of a request is, which came at this Unix time."""
    return Task(
        task_id=assignment.task_id,
        experiment_id=request.experiment_id,
        run_id=request.run_id,
        round=request.round,
        researcher=request.sender,
        model=request.model.sha256,
        deadline=min(request.deadline or math.inf, request.created_at + STALE_AFTER_S),
        received_at=received_at,
    )


class Admission:
    """What the people of a node decided, and what they registered, held against a request. Used by the agent's thread only."""

    def __init__(
        self, node: PartyId, registry: Registry, approvals: Approvals, policy: Policy, clock: Clock
    ) -> None:
        """Wire the parts together."""
        self._node = node
        self._registry = registry
        self._approvals = approvals
        self._policy = policy
        self._clock = clock

    def admit(self, request: TrainRequest) -> Dataset | Failure:
        """Return the data set on which this node does its share of a request, as things stand now, or why it does not."""
        task = share(request, self._node).task_id
        try:
            return self._dataset(request)
        except (PlanError, TaskError, DataError) as error:
            log.warning("task refused", extra={"action": "task_refused", "task": task, "error": str(error)})
            return Failure.of(error)

    def _dataset(self, request: TrainRequest) -> Dataset:
        actual, dataset_id = plan_hash(request.source), share(request, self._node).dataset_id
        if actual != request.plan_hash:
            raise PlanHashError(expected=request.plan_hash, actual=actual)
        ahead_s = request.created_at - self._clock.now()
        if ahead_s > _CLOCKS_DIFFER_S:
            reason = f"the clock of {request.sender} is {ahead_s:.0f} s ahead"
            raise TaskRefusedError(node=self._node, reason=reason)
        try:
            dataset = self._registry.get(dataset_id)
        except NoSuchDatasetError as error:
            raise DatasetNotOnNodeError(node=self._node, dataset=dataset_id) from error
        self._check(dataset)
        state, limits = self._approvals.standing(request.plan_hash)
        refusal = self._policy.refusal(request, node=self._node, samples=dataset.samples, plan=state)
        if refusal is not None:
            raise refusal
        if state is PlanState.APPROVED:
            check_limits(limits, request, node=self._node)
        args = request.training_args
        if not args.test_tags and not args.join_tags:
            return dataset
        return replace(
            dataset,
            test=self._other(args.test_tags, dataset, "validate on"),
            joined=self._other(args.join_tags, dataset, "join to it"),
        )

    def _other(self, tags: Sequence[str], dataset: Dataset, purpose: str) -> Dataset | None:
        """Return the other data set that a request names by its tags, if it names any."""
        if not tags:
            return None
        found = self._registry.search(tags)
        if len(found) != 1 or found[0].dataset_id == dataset.dataset_id:
            what = "not one data set apart from that to train on" if found else "no data set"
            reason = f"{what} carries the tags {', '.join(tags)}, to {purpose}"
            raise TaskRefusedError(node=self._node, reason=reason)
        self._check(found[0])
        return found[0]

    def _check(self, dataset: Dataset) -> None:
        """Make sure that a data set is as it was registered, and that nobody must look at it first."""
        if dataset.changed_at is not None:
            raise DataFileGoneError(name=dataset.name, what="has changed")
        try:
            self._registry.check(dataset)
        except DataFileGoneError:
            if dataset.watched:
                self._registry.mark(dataset.dataset_id, self._clock.now())
            raise
