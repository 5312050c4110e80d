"""Remember, durably, what an experiment asked for, what came of it, and what was made of that."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import resources
from pathlib import Path
from sqlite3 import Row
from typing import Any, Final

from common.errors import NoSuchExperimentError
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId, derived_uuid
from common.messages import (
    DatasetDescription,
    LossPoint,
    PayloadManifest,
    TaskTimings,
    TrainReply,
    Validation,
)
from common.sqlite import Database, open_database, transaction
from researcher.history import Kind, NodeRecord, RoundRecord
from researcher.round import RoundState

FILE: Final = "ledger.sqlite"
_APPLICATION_ID: Final = 0x57524E4C  # "WRNL"
_TOLD: Final = {"update", "samples_seen", "samples_train", "samples_test", "losses", "validations", "timings"}


_NODES: Final = """
    SELECT tasks.*, opened_at, digest, outcome, updates.reason AS update_reason, arrived_at, record
    FROM tasks JOIN rounds USING (run, round) LEFT JOIN updates ON updates.task = tasks.id
    WHERE (?1 IS NULL OR run = ?1) AND (?2 IS NULL OR round = ?2)
    ORDER BY node, attempt, outcome = 'accepted'
"""
_ROUNDS: Final = """
    SELECT * FROM rounds WHERE (?1 IS NULL OR run = ?1) AND (?2 IS NULL OR round = ?2) ORDER BY position
"""


class Outcome(StrEnum):
    """What became of an update."""

    ACCEPTED = "accepted"
    LATE = "late"
    REFUSED = "refused"
    QUARANTINED = "quarantined"
    """Another update with the same id was there first: somebody reports one task twice with different results."""


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """The experiment itself."""

    id: ExperimentId
    name: str
    created_at: float
    config: Mapping[str, Any]
    plan_name: str
    plan_hash: Digest
    plan_source: str
    run: RunId | None = None
    training_data: Mapping[PartyId, DatasetDescription] | None = None
    initial_model: Digest | None = None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One node's share of one round."""

    id: TaskId
    run: RunId
    round: int
    node: PartyId
    dataset: DatasetId
    attempt: int
    state: str = "sent"
    final: bool = False
    reason: str | None = None


class Ledger:
    """The database of one experiment.

    What a method wrote is on disk when it returns, or when the enclosing `together` block ends. Thread-safe.
    """

    def __init__(self, connection: Database) -> None:
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def create(cls, folder: Path, experiment: ExperimentRow) -> Ledger:
        """Make the ledger of a new experiment in an existing folder.

        Raises:
            StorageError: If a file is there that is not a ledger of this version, or the disk is full.
        """
        ledger = cls(_open(folder))
        ledger.save(experiment)
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Open the ledger of an experiment.

        Raises:
            NoSuchExperimentError: If the folder has none.
            ForeignDatabaseError: If the file is damaged or something else; it was not touched.
            DatabaseVersionError: If a newer Warren wrote it; it was not touched.
        """
        if not (folder / FILE).exists():
            raise NoSuchExperimentError(path=folder, reason=f"there is no {FILE}")
        ledger = cls(_open(folder))
        if ledger._connection.execute("SELECT 1 FROM experiment").fetchone() is None:
            ledger.close()
            raise NoSuchExperimentError(path=folder, reason="it was never begun")
        return ledger

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Commit everything that the block writes at once, or none of it."""
        with self._lock:
            if self._connection.in_transaction:  # a block in a block is part of it
                yield
                return
            with transaction(self._connection):
                yield

    # The experiment

    def save(self, experiment: ExperimentRow) -> None:
        """Write the experiment in place of what was there."""
        data = experiment.training_data
        described = {node: one.model_dump(mode="json") for node, one in (data or {}).items()}
        self._write(
            "INSERT OR REPLACE INTO experiment (only, id, name, created_at, run, config, plan_name, plan_hash, "
            "plan_source, training_data, initial_model) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            experiment.id,
            experiment.name,
            experiment.created_at,
            experiment.run,
            json.dumps(dict(experiment.config)),
            experiment.plan_name,
            experiment.plan_hash,
            experiment.plan_source,
            None if data is None else json.dumps(described),
            experiment.initial_model,
        )

    def experiment(self) -> ExperimentRow:
        """Return the experiment."""
        row = self._read("SELECT * FROM experiment")[0]
        data = json.loads(row["training_data"] or "{}")
        return ExperimentRow(
            id=row["id"],
            name=row["name"],
            created_at=row["created_at"],
            config=json.loads(row["config"]),
            plan_name=row["plan_name"],
            plan_hash=row["plan_hash"],
            plan_source=row["plan_source"],
            run=row["run"],
            training_data={node: DatasetDescription.model_validate(one) for node, one in data.items()}
            or None,
            initial_model=row["initial_model"],
        )

    # Rounds and tasks

    def open_round(
        self,
        run: RunId,
        round_: int,
        kind: Kind,
        base: Digest,
        opened_at: float,
        tasks: Iterable[TaskRow],
        *,
        sent: PayloadManifest,
        encoding: str,
    ) -> None:
        """Begin a round: after this it is resumed if the process dies, with the model as it was sent."""
        with self.together():
            self._write(
                "INSERT INTO rounds (run, round, kind, state, base, sent, encoding, opened_at) "
                "VALUES (?, ?, ?, 'open', ?, ?, ?, ?)",
                *(run, round_, kind, base, sent.model_dump_json(), encoding, opened_at),
            )
            for task in tasks:
                self.add_task(task)

    def add_task(self, task: TaskRow) -> None:
        """Note a task before it is sent."""
        self._write(
            "INSERT INTO tasks (id, run, round, node, dataset, attempt, state) VALUES (?, ?, ?, ?, ?, ?, 'sent')",
            *(task.id, task.run, task.round, task.node, task.dataset, task.attempt),
        )

    def settle_task(
        self,
        task: TaskId,
        state: str,
        at: float,
        *,
        reason: str | None = None,
        code: str | None = None,
        final: bool = False,
    ) -> None:
        """Note what became of a task that was still out; one that is settled stays as it is."""
        self._write(
            "UPDATE tasks SET state = ?, settled_at = ?, reason = ?, code = ?, final = ? WHERE id = ? AND state = 'sent'",
            *(state, at, reason, code, int(final), task),
        )

    def end_round(
        self,
        run: RunId,
        round_: int,
        state: RoundState,
        at: float,
        *,
        model: Digest | None = None,
        reason: str | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> None:
        """End an open round; its tasks that are still out become cancelled."""
        timings = timings or {}
        with self.together():
            self._write(
                "UPDATE rounds SET state = ?, closed_at = ?, model = ?, reason = ?, broadcast_s = ?, collect_s = ?, "
                "aggregate_s = ?, save_s = ? WHERE run = ? AND round = ? AND state = 'open'",
                *(state, at, model, reason),
                *(timings.get(name) for name in ("broadcast_s", "collect_s", "aggregate_s", "save_s")),
                *(run, round_),
            )
            self._write(
                "UPDATE tasks SET state = 'cancelled', settled_at = ? WHERE run = ? AND round = ? AND state = 'sent'",
                *(at, run, round_),
            )

    def task(self, task: TaskId) -> TaskRow | None:
        """Return a task, or None if the ledger does not know it."""
        rows = self._read("SELECT * FROM tasks WHERE id = ?", task)
        return _task(rows[0]) if rows else None

    def tasks(self, run: RunId, round_: int) -> list[TaskRow]:
        """Return the tasks of a round: the settled ones in the order in which they were settled, then the others."""
        rows = self._read(
            "SELECT * FROM tasks WHERE run = ? AND round = ? ORDER BY attempt, settled_at IS NULL, settled_at, node",
            *(run, round_),
        )
        return [_task(row) for row in rows]

    # Updates

    def add_update(
        self,
        experiment: ExperimentId,
        reply: TrainReply,
        outcome: Outcome,
        at: float,
        *,
        reason: str | None = None,
    ) -> Outcome | None:
        """Account for an update.

        Returns:
            The outcome that was written, which is `quarantined` if another update with its id is there; None if this very
            update is there already, so that nothing was written.
        """
        id_ = update_id(experiment, reply)
        digest = reply.update.sha256 if reply.update else ""
        known = {row["digest"] for row in self._read("SELECT digest FROM updates WHERE id = ?", id_)}
        if digest in known:
            return None
        if known:
            outcome, reason = Outcome.QUARANTINED, "another update of this task came before"
        self._write(
            "INSERT INTO updates (id, digest, task, outcome, reason, arrived_at, record) VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(id_, digest, reply.task_id, outcome, reason, at),
            reply.model_dump_json(include=_TOLD),
        )
        return outcome

    def accepted(self, tasks: Iterable[TaskId]) -> list[tuple[PartyId, Digest, dict[str, Any]]]:
        """Return node, digest and what the node told of the accepted updates of these tasks, in the same order."""
        statement = (
            "SELECT node, digest, record FROM updates JOIN tasks ON tasks.id = updates.task "
            "WHERE task = ? AND outcome = 'accepted'"
        )
        rows = [row for task in tasks for row in self._read(statement, task)]
        return [(PartyId(row["node"]), Digest(row["digest"]), json.loads(row["record"])) for row in rows]

    # Reading back

    def rounds(self, run: RunId | None = None, round_: int | None = None) -> list[RoundRecord]:
        """Return rounds with what each node did: all of them, those of a run, or one."""
        nodes: dict[tuple[str, int], dict[PartyId, NodeRecord]] = {}
        for row in self._read(_NODES, run, round_):
            # of several rows of a node the last one counts
            nodes.setdefault((row["run"], row["round"]), {})[row["node"]] = _node_record(row)
        return [
            replace(_round_record(row), nodes=nodes.get((row["run"], row["round"]), {}))
            for row in self._read(_ROUNDS, run, round_)
        ]

    def open_rounds(self) -> list[RoundRecord]:
        """Return the rounds that were begun and not ended; at most one."""
        return [_round_record(row) for row in self._read("SELECT * FROM rounds WHERE state = 'open'")]

    def last_model(self) -> tuple[int, Digest] | None:
        """Return number and model of the last round that was closed, or None before the first."""
        rows = self._read(
            "SELECT round, model FROM rounds WHERE state = 'closed' AND kind = 'train' ORDER BY round DESC LIMIT 1"
        )
        return (int(rows[0]["round"]), Digest(rows[0]["model"])) if rows else None

    def _read(self, statement: str, *values: object) -> list[Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: object) -> None:
        with self._lock:
            self._connection.execute(statement, values)


def update_id(experiment: ExperimentId, reply: TrainReply) -> str:
    """Return the id under which an update is accounted for."""
    return derived_uuid("update", experiment, reply.run_id, reply.round, reply.task_id, reply.sender)


def _open(folder: Path) -> Database:
    schema = resources.files("researcher").joinpath("schema.sql").read_text(encoding="utf-8")
    return open_database(folder / FILE, kind="ledger", application_id=_APPLICATION_ID, migrations=(schema,))


def _task(row: Row) -> TaskRow:
    return TaskRow(
        id=row["id"],
        run=row["run"],
        round=row["round"],
        node=row["node"],
        dataset=row["dataset"],
        attempt=row["attempt"],
        state=row["state"],
        final=bool(row["final"]),
        reason=row["reason"],
    )


def _node_record(row: Row) -> NodeRecord:
    record = NodeRecord(
        node=row["node"],
        outcome=row["outcome"] or row["state"],
        attempt=row["attempt"],
        code=row["code"],
        reason=row["update_reason"] or row["reason"],
    )
    if row["record"] is None:
        return record
    told = json.loads(row["record"])
    return replace(
        record,
        digest=row["digest"] or None,
        answered_s=row["arrived_at"] - row["opened_at"],
        samples_seen=told["samples_seen"],
        samples_train=told["samples_train"],
        samples_test=told["samples_test"],
        losses=tuple(LossPoint.model_validate(one) for one in told["losses"]),
        validations=tuple(Validation.model_validate(one) for one in told["validations"]),
        timings=TaskTimings.model_validate(told["timings"]),
    )


def _round_record(row: Row) -> RoundRecord:
    timings = {name: row[name] for name in ("broadcast_s", "collect_s", "aggregate_s", "save_s")}
    return RoundRecord(
        round=row["round"],
        run=row["run"],
        kind=row["kind"],
        state=RoundState(row["state"]),
        reason=row["reason"],
        base=row["base"],
        sent=PayloadManifest.model_validate_json(row["sent"]),
        encoding=row["encoding"],
        model=row["model"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        timings=timings,
    )
