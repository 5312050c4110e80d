"""Make the model of a round from what the ledger and the directory hold, for the first time or again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from common.errors import NoNodesError, PayloadMissingError, RoundNotKeptError
from common.ids import PartyId
from common.optimizers import Optimizer
from common.payload.encodings.choice import Encoding
from researcher.aggregators import Aggregator, Contribution, Recall, StatefulAggregator
from researcher.history import RoundRecord
from researcher.holdings import Holdings
from researcher.ledger import Ledger
from researcher.memory import Memory
from researcher.parcels import Parcels
from researcher.server_step import server_step
from researcher.strategies import AnyStrategy, AsyncStrategy

OPTIMIZER: Final = "optimizer"
"""Folder of an experiment in which lies what its server optimizer remembers."""
AGGREGATOR: Final = "aggregator"
"""Folder of an experiment in which lies what its aggregator remembers."""


def aggregate(
    ledger: Ledger,
    store: Holdings,
    parcels: Parcels,
    record: RoundRecord,
    *,
    aggregator: Aggregator,
    strategy: AnyStrategy,
    target: Path,
    folder: Path,
    agg_optimizer: Optimizer | None = None,
    remember: Path | None = None,
    without: Collection[PartyId] = (),
) -> tuple[PartyId, ...]:
    """Write the model that the updates counted in a round make; a pure function of what was recorded.

    Args:
        ledger: Says which updates count.
        store: Holds them and the models.
        parcels: Decompresses them.
        record: The round.
        aggregator: Makes the model.
        strategy: Scales what is stale.
        target: Where to write.
        folder: That of the experiment, which holds what aggregator and optimizer remember.
        agg_optimizer: Steps the model towards what the aggregator makes; none takes that as it is.
        remember: Folder in which to write what they remember now, in place of that of the experiment.
        without: Nodes to leave out.

    Returns:
        The nodes whose updates were used, in the order in which they were.

    Raises:
        NoNodesError: If none is left.
        RoundNotKeptError: If a file is missing.
    """
    round_ = record.round
    counted = [one for one in ledger.counted(record.run, round_) if one.node not in without]
    if not counted:
        raise NoNodesError(round=round_, available=", ".join(sorted(without)) or "nobody")
    try:
        base = store.content(record.base)
        contributions = [
            Contribution(
                one.node,
                parcels.unpacked(one.update),
                one.samples_seen,
                one.samples_train,
                encoded=Encoding.parse(one.update.encoding).name != "raw",
                start=store.content(one.base) if one.round != round_ else None,
                scale=strategy.weight(round_ - one.round) if isinstance(strategy, AsyncStrategy) else 1.0,
                steps=one.steps,
                lr_sum=one.lr_sum,
            )
            for one in counted
        ]
        proposal = target if agg_optimizer is None else target.with_name("proposal.draft")
        if isinstance(aggregator, StatefulAggregator):
            before = recalled(folder, ledger, round_, aggregator)
            after = Memory((remember or folder) / AGGREGATOR).after(round_)
            recall = Recall(record.members, before, after)
            aggregator.aggregate(base, contributions, proposal, recall)
        else:
            aggregator.aggregate(base, contributions, proposal)
        if agg_optimizer is not None:
            before = _before(Memory(folder / OPTIMIZER), ledger, round_)
            after = Memory((remember or folder) / OPTIMIZER).after(round_)
            server_step(agg_optimizer, base, proposal, before, target, after)
            proposal.unlink()
    except PayloadMissingError as error:
        raise RoundNotKeptError(round=round_, reason=error.public_text) from error
    return tuple(one.node for one in counted)


def recalled(folder: Path, ledger: Ledger, round_: int, aggregator: StatefulAggregator) -> Path | None:
    """Return what an aggregator remembers from the round before, if it made the model of that.

    Raises:
        RoundNotKeptError: If it did, and the file was removed.
    """
    known, last = Memory(folder / AGGREGATOR).before(round_), ledger.closed_round(round_ - 1)
    if last is None or last.aggregator["name"] != type(aggregator).__name__:
        return None
    if known is None:
        raise RoundNotKeptError(round=round_, reason="what its aggregator remembered was removed")
    return known


def _before(memory: Memory, ledger: Ledger, round_: int) -> Path | None:
    """Return what the optimizer remembers from the round before, if it took part in that."""
    known, last = memory.before(round_), ledger.closed_round(round_ - 1)
    if known is None and last is not None and last.agg_optimizer is not None:
        raise RoundNotKeptError(round=round_, reason="what its optimizer remembered was removed")
    return known
