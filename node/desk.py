"""Answer the short requests: who are you, what data do you have, may this plan run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from common.audit.record import Action, Entry
from common.errors import PlanHashError, TooManyPlansError, WarrenError
from common.ids import Digest, PartyId
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
        record: Callable[[Entry], None],
    ) -> None:
        """Wire the desk; `info` says how the node is doing, `record` takes what the audit log must say before an answer leaves."""
        self._node = node
        self._registry = registry
        self._approvals = approvals
        self._policy = policy
        self._info = info
        self._record = record

    def answer(self, question: Question) -> AnyMessage:
        """Return the answer to one request; those who are not served learn that nothing is here for them.

        Raises:
            DiskFullError: If an approval request cannot be kept.
        """
        sender, recipients, request_id = self._node, (question.sender,), question.message_id
        serves = partial(self._policy.serves, question.sender)
        match question:
            case PingRequest():
                return PingReply(
                    sender=sender, recipients=recipients, request_id=request_id, info=self._info()
                )
            case ListRequest():
                served = serves("list")
                datasets = tuple(dataset.describe() for dataset in self._registry.list()) if served else ()
                self._described(question, len(datasets), served=served)
                return ListReply(
                    sender=sender, recipients=recipients, request_id=request_id, datasets=datasets
                )
            case SearchRequest(tags=tags):
                served = serves("search")
                found = self._registry.search(tags) if served else ()
                described = (dataset.describe() for dataset in found)
                datasets = tuple(one for one in described if one.available)
                self._described(question, len(datasets), served=served)
                return SearchReply(
                    sender=sender, recipients=recipients, request_id=request_id, datasets=datasets
                )
            case PlanApprovalRequest():
                state, note = (
                    self._propose(question)
                    if serves("approval")
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
                self._record(Entry(action=Action.PLAN_STATUS_ASKED, actor=question.sender, plan_hash=known))
                return PlanStatusReply(
                    sender=sender,
                    recipients=recipients,
                    request_id=request_id,
                    plan_hash=known,
                    state=state,
                    required=self._policy.plan_approval,
                    note=plan.decision_note if plan else "",
                    decided_at=plan.decided_at if plan else None,
                    limits=tuple(str(limit) for limit in plan.limits) if plan else (),
                )

    def _propose(self, request: PlanApprovalRequest) -> tuple[PlanState, str]:
        try:
            plan = self._approvals.request(
                name=request.plan_name,
                announced=request.plan_hash,
                source=request.source,
                by=request.sender,
                note=request.note,
                witness=lambda new: self._record(_requested(request, new.plan_hash)),
            )
        except (PlanHashError, TooManyPlansError) as error:
            self._record(_requested(request, request.plan_hash, error))
            return PlanState.UNKNOWN, error.public_text
        return plan.state, plan.decision_note

    def _described(self, question: Question, count: int, *, served: bool) -> None:
        self._record(
            Entry(
                action=Action.DATASETS_DESCRIBED,
                actor=question.sender,
                outcome="done" if served else "refused",
                count=count,
            )
        )


def _requested(request: PlanApprovalRequest, known: Digest, error: WarrenError | None = None) -> Entry:
    return Entry(
        action=Action.PLAN_REQUESTED,
        actor=request.sender,
        outcome="refused" if error else "done",
        code=error.code if error else None,
        plan_name=request.plan_name,
        plan_hash=known,
        note=request.note or None,
    )
