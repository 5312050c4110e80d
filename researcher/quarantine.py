"""Tell which updates of an experiment do not count, and which tasks came to nothing, with the reason of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.payload.store import PayloadStore
from researcher.holdings import FOLDER
from researcher.ledger import Ledger


@dataclass(frozen=True, slots=True)
class SetAside:
    """An update that was refused or quarantined, or a task that failed.

    Attributes:
        task: The task.
        round: Number of its round.
        node: Whose it is.
        attempt: Which attempt it was, from 1.
        outcome: `refused`, `quarantined` or `failed`.
        code: Code of the error; none if there was none.
        reason: Why.
        at: Unix time.
        digest: SHA-256 of the update; none if there is no update.
        file: Where the update is kept for a person to look at; none if it is not.
    """

    task: str
    round: int
    node: str
    attempt: int
    outcome: str
    code: str | None
    reason: str | None
    at: float | None
    digest: str | None
    file: Path | None


def set_aside(folder: Path) -> list[SetAside]:
    """Return everything that an experiment set aside, in the order of rounds and nodes.

    Raises:
        NoSuchExperimentError: If there is none in the directory.
        StorageError: If its ledger cannot be read.
    """
    store = PayloadStore(folder / FOLDER)
    ledger = Ledger.open(folder)
    try:
        rows = ledger.set_aside()
    finally:
        ledger.close()
    return [
        SetAside(
            task=row["task"],
            round=row["round"],
            node=row["node"],
            attempt=row["attempt"],
            outcome=row["outcome"],
            code=row["code"],
            reason=row["reason"],
            at=row["at"],
            digest=row["digest"] or None,
            file=store.path(row["digest"]) if row["digest"] and store.has(row["digest"]) else None,
        )
        for row in rows
    ]
