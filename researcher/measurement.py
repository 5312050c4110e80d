"""Find the moments of columns over all nodes in what a ledger knows."""

from __future__ import annotations

from typing import Final

from common.messages import ColumnMoments
from common.pooling import pooled_moments
from researcher.ledger import Ledger
from researcher.round import RoundState

ROUND: Final = 0
"""Number of the round in which nodes tell the moments of their columns: it comes before all that train."""


def measured(ledger: Ledger) -> tuple[ColumnMoments, ...] | None:
    """Return the moments over all nodes that told theirs in time, or None if no round for that was closed.

    What is added up is what the ledger says, so a process that died before it noted the sum finds the same one, bit for bit.
    """
    closed = [
        one for one in ledger.rounds(round_=ROUND) if one.kind == "measure" and one.state is RoundState.CLOSED
    ]
    if not closed:
        return None
    accepted = [one for one in closed[-1].nodes.values() if one.outcome == "accepted"]
    return pooled_moments([one.moments for one in accepted if one.moments is not None])
