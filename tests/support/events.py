"""What happens in a run of one round, as observers are told of it."""

from __future__ import annotations

from common.ids import derived_uuid
from common.messages import LossPoint, PayloadManifest, TaskState
from researcher.history import NodeRecord, RoundRecord
from researcher.monitoring import (
    NodeChanged,
    NodeProgress,
    RoundEnded,
    RoundOpened,
    RunEnded,
    RunStarted,
    TaskLost,
    UpdateArrived,
)
from researcher.round import RoundState

NODES = ("north", "south")


def point(loss):
    return LossPoint(iteration=1, epoch=1, samples=10, loss=loss)


def answer(node, loss, seen, outcome="accepted", reason=None):
    return NodeRecord(
        node, outcome, 1, reason=reason, losses=(point(loss),), samples_seen=seen, answered_s=0.25
    )


def record(state=RoundState.CLOSED, reason=None):
    return RoundRecord(
        round=1,
        run=derived_uuid("run"),
        kind="train",
        state=state,
        reason=reason,
        base="0" * 64,
        sent=PayloadManifest(sha256="0" * 64, size_bytes=100, inline=True),
        encoding="raw",
        model="1" * 64,
        reserve=(),
        agg_optimizer=None,
        aggregator={"name": "FedAverage"},
        strategy={"name": "DefaultStrategy"},
        members=2,
        opened_at=100.0,
        deadline=None,
        closed_at=100.5,
        nodes={"north": answer("north", 0.25, 10), "south": answer("south", 0.5, 30)},
    )


EVENTS = (
    RunStarted(derived_uuid("experiment"), "heart [1]", derived_uuid("run"), NODES, 1, 2),
    RoundOpened(1, "train", NODES, 100.0, resumed=False),
    NodeProgress(1, "north", TaskState.RUNNING, (point(0.75),)),
    NodeChanged("south", online=False, at=100.1),
    TaskLost(1, "south", "WRN-601: the worker ended", retried=True),
    UpdateArrived(1, answer("north", 0.25, 10)),
    UpdateArrived(1, answer("south", 0.5, 30, "refused", "not finite")),
    RoundEnded(record()),
    RunEnded(1, None, 0.6),
)
