"""Answer the short requests: who are you, what data do you have, may this plan run."""

from __future__ import annotations

from collections.abc import Callable

from common.errors import PlanHashError
from common.ids import PartyId
from common.messages import (
    AnyMessage,
    ListReply,
    ListRequest,
    NodeInfo,
    PingReply,
    PingRequest,
    PlanApprovalReply,
    PlanApprovalRequest,
    PlanState,
    PlanStatusReply,
    PlanStatusRequest,
    SearchReply,
    SearchRequest,
)
from node.approval import Approvals
from node.policy import Policy
from node.registry import Registry

Question = PingRequest | ListRequest | SearchRequest | PlanApprovalRequest | PlanStatusRequest


class Desk:
    """Answers from what is on disk, while training goes on. Used by the agent's thread only."""

    def __init__(
        self,
        node: PartyId,
        registry: Registry,
        approvals: Approvals,
        policy: Policy,
        info: Callable[[], NodeInfo],
    ) -> None:
        """Wire the desk; `info` says how the node is doing."""
        self._node = node
        self._registry = registry
        self._approvals = approvals
        self._policy = policy
        self._info = info

    def answer(self, question: Question) -> AnyMessage:
        """Return the answer to one request; those who are not served learn that nothing is here for them.

        Raises:
            DiskFullError: If an approval request cannot be kept.
        """
        sender, recipients, request_id = self._node, (question.sender,), question.message_id
        served = self._policy.admits(question.sender)
        match question:
            case PingRequest():
                return PingReply(
                    sender=sender, recipients=recipients, request_id=request_id, info=self._info()
                )
            case ListRequest():
                datasets = tuple(dataset.describe() for dataset in self._registry.list()) if served else ()
                return ListReply(
                    sender=sender, recipients=recipients, request_id=request_id, datasets=datasets
                )
            case SearchRequest(tags=tags):
                datasets = (
                    tuple(dataset.describe() for dataset in self._registry.search(tags)) if served else ()
                )
                return SearchReply(
                    sender=sender, recipients=recipients, request_id=request_id, datasets=datasets
                )
            case PlanApprovalRequest():
                state, note = (
                    self._propose(question)
                    if served
                    else (PlanState.REJECTED, "this node does not serve you")
                )
                return PlanApprovalReply(
                    sender=sender,
                    recipients=recipients,
                    request_id=request_id,
                    plan_hash=question.plan_hash,
                    state=state,
                    note=note,
                )
            case PlanStatusRequest(plan_hash=known):
                state = self._approvals.state(known)
                plan = None if state is PlanState.UNKNOWN else self._approvals.get(known)
                return PlanStatusReply(
                    sender=sender,
                    recipients=recipients,
                    request_id=request_id,
                    plan_hash=known,
                    state=state,
                    required=self._policy.plan_approval,
                    note=plan.decision_note if plan else "",
                    decided_at=plan.decided_at if plan else None,
                )

    def _propose(self, request: PlanApprovalRequest) -> tuple[PlanState, str]:
        try:
            plan = self._approvals.request(
                name=request.plan_name,
                announced=request.plan_hash,
                source=request.source,
                by=request.sender,
                note=request.note,
            )
        except PlanHashError as error:
            return PlanState.UNKNOWN, error.public_text
        return plan.state, plan.decision_note
