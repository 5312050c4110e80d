"""Say what an experiment waits for: on whom, since when, until when. Reads its ledger, also while another process writes it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from common.ids import ExperimentId, PartyId
from researcher.control import is_running
from researcher.directory import NodeStatus
from researcher.history import RoundRecord
from researcher.home import Home
from researcher.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Awaited:
    """A node that has not answered.

    Attributes:
        node: The node.
        round: The round that it was asked for.
        attempt: Which attempt it is, from 1.
        asked_at: Unix time at which it was asked.
        online: Whether it is connected, as far as a process of this home knows; none if nobody knows.
        since: Unix time from which it is so, if that is known.
    """

    node: PartyId
    round: int
    attempt: int
    asked_at: float
    online: bool | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How an experiment stands.

    Attributes:
        folder: Its directory.
        id: The experiment.
        name: What people call it.
        running: Whether a process of this home runs it now.
        finished: How many rounds were finished.
        round_limit: After how many it is finished; none for no end.
        round: Number of the open round, if there is one.
        kind: What is asked for in it.
        opened_at: Unix time of its opening.
        deadline: Unix time until which it waits; none without a limit.
        accepted: Nodes whose updates count.
        lost: Nodes that failed or were refused, with the reason.
        awaited: Nodes that have not answered.
        ended: How the last round ended, if none is open.
    """

    folder: Path
    id: ExperimentId
    name: str
    running: bool
    finished: int
    round_limit: int | None
    round: int | None = None
    kind: str | None = None
    opened_at: float | None = None
    deadline: float | None = None
    accepted: tuple[PartyId, ...] = ()
    lost: Mapping[PartyId, str] | None = None
    awaited: tuple[Awaited, ...] = ()
    ended: str | None = None


def standing(folder: Path, home: Home, nodes: Mapping[str, NodeStatus]) -> Standing:
    """Return how the experiment in a directory stands.

    Args:
        folder: The directory.
        home: The home whose processes may run it.
        nodes: What is known of the nodes.

    Raises:
        NoSuchExperimentError: If there is none.
        StorageError: If its ledger cannot be read.
    """
    with contextlib.closing(Ledger.open(folder)) as ledger:
        row, model, rounds = ledger.experiment(), ledger.last_model(), ledger.rounds()
        sent = ledger.outstanding(row.run) if row.run is not None else []
    still = [one for one in rounds if one.closed_at is None]
    base = Standing(
        folder=folder,
        id=row.id,
        name=row.name,
        running=is_running(home, row.id),
        finished=model[0] if model else 0,
        round_limit=row.config["round_limit"],
        ended=_ending(rounds[-1]) if rounds and not still else None,
    )
    if not still:
        return base
    (record,) = still
    here = record.nodes.values()
    return replace(
        base,
        round=record.round,
        kind=record.kind,
        opened_at=record.opened_at,
        deadline=record.deadline,
        accepted=tuple(one.node for one in here if one.outcome == "accepted"),
        lost={one.node: one.reason or "" for one in here if one.outcome in ("failed", "refused")},
        awaited=tuple(
            Awaited(
                task.node,
                task.round,
                task.attempt,
                task.sent_at,
                nodes[task.node].online if task.node in nodes else None,
                nodes[task.node].since if task.node in nodes else None,
            )
            for task in sent
        ),
    )


def _ending(last: RoundRecord) -> str:
    what = {"validate": "validation", "measure": "moments of columns"}.get(last.kind, f"round {last.round}")
    return f"{what} {last.state}" + (f": {last.reason}" if last.reason else "")
