"""Say in the words of the audit log what a researcher asked for, what came, and what was made of it.

A line is written when the step that it tells of is in the ledger of the experiment, which is the record that nothing is missing from:
a crash between the two leaves a step without its line.
"""

from __future__ import annotations

from typing import Final

from common.audit.record import Action, Entry
from common.ids import Digest, ExperimentId, PartyId
from common.messages import AnyMessage, PlanApprovalRequest, PlanStatusRequest
from researcher.monitoring.events import (
    Event,
    RoundEnded,
    RoundOpened,
    RunEnded,
    RunStarted,
    TaskLost,
    UpdateArrived,
)
from researcher.round import RoundState
from researcher.rows import ExperimentRow, Outcome

DURABLE: Final = frozenset({Action.RUN_STARTED, Action.ROUND_ENDED, Action.RUN_ENDED})
"""What is on disk at once, together with everything before it."""


def asked(request: AnyMessage) -> Entry | None:
    """Return that a short request was sent, or None if it tells and asks nothing that matters."""
    plan: Digest | None = None
    match request:
        case PlanApprovalRequest():
            action, plan = Action.PLAN_REQUESTED, request.plan_hash
        case PlanStatusRequest():
            action, plan = Action.PLAN_STATUS_ASKED, request.plan_hash
        case _ if request.kind in {"search_request", "list_request"}:
            action = Action.DATASETS_ASKED
        case _:
            return None
    return Entry(action=action, actor=request.sender, parties=request.recipients, plan_hash=plan)


def entry_of(event: Event, experiment: ExperimentRow, researcher: PartyId) -> Entry | None:
    """Return what is recorded of an event in an experiment, or None if nothing is."""
    known: ExperimentId = experiment.id
    match event:
        case RunStarted(run=run, name=name, nodes=nodes):
            return Entry(
                action=Action.RUN_STARTED,
                actor=researcher,
                experiment_id=known,
                run_id=run,
                parties=nodes,
                plan_name=experiment.plan_name,
                plan_hash=experiment.plan_hash,
                note=name[:2000] or None,
            )
        case RoundOpened(round=round_, nodes=nodes):
            return Entry(
                action=Action.ROUND_OPENED,
                actor=researcher,
                experiment_id=known,
                round=round_,
                parties=nodes,
                plan_hash=experiment.plan_hash,
            )
        case UpdateArrived(round=round_, record=record):
            return Entry(
                action=Action.UPDATE_RECEIVED,
                actor=record.node,
                outcome="done" if record.outcome == Outcome.ACCEPTED else "refused",
                experiment_id=known,
                round=round_,
                digest=record.digest,
                count=len(record.losses) + len(record.metrics),
                note=(record.reason or record.outcome)[:2000],
            )
        case TaskLost(round=round_, node=node, reason=reason):
            return Entry(
                action=Action.TASK_FAILED,
                actor=node,
                outcome="failed",
                experiment_id=known,
                round=round_,
                note=reason[:2000],
            )
        case RoundEnded(record=record):
            return Entry(
                action=Action.ROUND_ENDED,
                actor=researcher,
                outcome="done" if record.state is RoundState.CLOSED else "failed",
                experiment_id=known,
                run_id=record.run,
                round=record.round,
                digest=record.model,
                parties=tuple(node for node, one in record.nodes.items() if one.outcome == Outcome.ACCEPTED),
                note=record.reason and record.reason[:2000],
            )
        case RunEnded(rounds=rounds, error=error):
            return Entry(
                action=Action.RUN_ENDED,
                actor=researcher,
                outcome="failed" if error else "done",
                experiment_id=known,
                count=rounds,
                note=error and error[:2000],
            )
        case _:
            return None
