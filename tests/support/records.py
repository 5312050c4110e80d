"""Make up what a ledger tells of a round."""

from __future__ import annotations

from common.messages import LossPoint, PayloadManifest, Validation
from researcher.history import NodeRecord, RoundRecord
from researcher.round import RoundState


def record(number, metrics, statistics=None, *, kind="train", samples=None, state=RoundState.CLOSED):
    """A round in which these nodes told these metrics of the global model, of 10 samples each if not said otherwise."""
    statistics, samples = statistics or {}, samples or {}
    nodes = {
        node: NodeRecord(
            node,
            "accepted",
            1,
            samples_seen=10,
            losses=(LossPoint(iteration=1, epoch=0, samples=10, loss=0.5 / number),),
            validations=(
                Validation(
                    on="global",
                    samples=samples.get(node, 10),
                    metrics=values,
                    statistics=statistics.get(node),
                ),
            ),
        )
        for node, values in metrics.items()
    }
    return RoundRecord(
        round=number,
        run="r",
        kind=kind,
        state=state,
        reason=None,
        base="a" * 64,
        sent=PayloadManifest(sha256="a" * 64, size_bytes=100, inline=True),
        encoding="raw",
        model="b" * 64,
        reserve=(),
        aggregator={},
        agg_optimizer=None,
        strategy={},
        members=len(nodes),
        opened_at=1.0,
        deadline=None,
        closed_at=2.0,
        nodes=nodes,
    )
