"""Remember, durably, what an experiment asked for, what came of it, and what was made of that."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from sqlite3 import Row
from typing import Any, Final

from pydantic import TypeAdapter

from common.errors import NoSuchExperimentError
from common.ids import Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import DatasetDescription, PayloadManifest, TrainReply
from common.messages.moments import Moments
from common.sqlite import Database, open_database, transaction
from researcher.history import Kind, NodeRecord, RoundRecord
from researcher.round import RoundState
from researcher.rows import (
    TOLD,
    CountedUpdate,
    ExperimentRow,
    Outcome,
    TaskRow,
    counted_update,
    node_record,
    round_record,
    task_row,
    update_id,
)

_MOMENTS: Final[TypeAdapter[Moments]] = TypeAdapter(Moments)
FILE: Final = "ledger.sqlite"
_APPLICATION_ID: Final = 0x57524E4C  # "WRNL"
_NODES: Final = """
    SELECT tasks.*, opened_at, digest, outcome, updates.reason AS update_reason, arrived_at, record
    FROM rounds CROSS JOIN tasks USING (run, round) LEFT JOIN updates ON updates.task = tasks.id
    WHERE {} ORDER BY node, attempt, outcome = 'accepted'
"""
"""A cross join keeps the order of tables: of a long experiment, one round is read, and not all tasks."""
_SET_ASIDE: Final = """
    SELECT task, round, node, attempt, outcome, tasks.code, coalesce(updates.reason, tasks.reason) AS reason,
        arrived_at AS at, digest
    FROM updates JOIN tasks ON tasks.id = task WHERE outcome IN ('refused', 'quarantined')
    UNION ALL
    SELECT id, round, node, attempt, state, code, reason, settled_at, '' FROM tasks WHERE state = 'failed'
    ORDER BY round, node, attempt, at
"""
_ROUNDS: Final = "SELECT * FROM rounds WHERE {} ORDER BY position"


class Ledger:
    """The database of one experiment.

    What a method wrote is on disk when it returns, or when the enclosing `together` block ends. Thread-safe.
    """

    def __init__(self, connection: Database) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._counted: tuple[int, dict[PartyId, TaskId]] = 0, {}
        """Position of the last round that was seen closed, and what `last_counted` is there: closed rounds never change."""

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
            "plan_source, training_data, initial_model, parent, moments) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            None if experiment.parent is None else json.dumps(dict(experiment.parent)),
            None if experiment.moments is None else _MOMENTS.dump_json(experiment.moments).decode(),
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
            parent=json.loads(row["parent"] or "null"),
            moments=None if row["moments"] is None else _MOMENTS.validate_json(row["moments"]),
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
        updates: int = 0,
        reserve: Iterable[PartyId] = (),
        aggregator: Mapping[str, Any] | None = None,
        agg_optimizer: Mapping[str, Any] | None = None,
        strategy: Mapping[str, Any] | None = None,
        members: int = 0,
        deadline: float | None = None,
    ) -> None:
        """Begin a round: after this it is resumed if the process dies, with the model as it was sent."""
        with self.together():
            self._write(
                "INSERT INTO rounds (run, round, kind, state, base, sent, encoding, updates, reserve, aggregator, "
                "agg_optimizer, strategy, opened_at, members, deadline) "
                "VALUES (?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(run, round_, kind, base, sent.model_dump_json(), encoding, updates),
                *(json.dumps(list(reserve)), json.dumps(dict(aggregator or {}))),
                None if agg_optimizer is None else json.dumps(dict(agg_optimizer)),
                *(json.dumps(dict(strategy or {})), opened_at, members, deadline),
            )
            for task in tasks:
                self.add_task(task)

    def add_task(self, task: TaskRow) -> None:
        """Note a task before it is sent."""
        self._write(
            "INSERT INTO tasks (id, run, round, node, dataset, attempt, sent_at, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 'sent')",
            *(task.id, task.run, task.round, task.node, task.dataset, task.attempt, task.sent_at),
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
        cancel: bool = True,
    ) -> None:
        """End an open round; its tasks that are still out become cancelled, unless they are wanted in the next one."""
        timings = timings or {}
        with self.together():
            streams = json.dumps(self.updates_done()) if state is RoundState.CLOSED else None
            self._write(
                "UPDATE rounds SET state = ?, closed_at = ?, model = ?, reason = ?, streams = ?, broadcast_s = ?, "
                "collect_s = ?, aggregate_s = ?, save_s = ? WHERE run = ? AND round = ? AND state = 'open'",
                *(state, at, model, reason, streams),
                *(timings.get(name) for name in ("broadcast_s", "collect_s", "aggregate_s", "save_s")),
                *(run, round_),
            )
            if cancel:
                self.cancel_tasks(run, at)

    def cancel_tasks(self, run: RunId, at: float) -> None:
        """Note that nothing of a run is wanted any more."""
        self._write(
            "UPDATE tasks SET state = 'cancelled', settled_at = ? WHERE run = ? AND state = 'sent'", at, run
        )

    def extend_deadline(self, run: RunId, round_: int, deadline: float | None) -> None:
        """Note another deadline of an open round, for whoever asks how it stands."""
        self._write(
            "UPDATE rounds SET deadline = ? WHERE run = ? AND round = ? AND state = 'open'",
            *(deadline, run, round_),
        )

    def explain(self, run: RunId, round_: int, reason: str) -> None:
        """Note why a closed round is the last one."""
        self._write(
            "UPDATE rounds SET reason = ? WHERE run = ? AND round = ? AND state = 'closed'",
            *(reason, run, round_),
        )

    def task(self, task: TaskId) -> TaskRow | None:
        """Return a task, or None if the ledger does not know it."""
        rows = self._read("SELECT * FROM tasks WHERE id = ?", task)
        return task_row(rows[0]) if rows else None

    def tasks_of_run(self, run: RunId) -> list[TaskRow]:
        """Return all tasks of a run, those of each node in the order in which they were sent."""
        rows = self._read("SELECT * FROM tasks WHERE run = ? ORDER BY round, attempt, node", run)
        return [task_row(row) for row in rows]

    def counted_tasks(self, run: RunId, round_: int) -> list[TaskId]:
        """Return the tasks whose updates count in a round, in the order in which they came."""
        rows = self._read(
            "SELECT task FROM updates JOIN tasks ON tasks.id = task WHERE run = ? AND counted = ? ORDER BY arrived_at",
            *(run, round_),
        )
        return [TaskId(row["task"]) for row in rows]

    def tasks(self, run: RunId, round_: int) -> list[TaskRow]:
        """Return the tasks of a round: the settled ones in the order in which they were settled, then the others."""
        rows = self._read(
            "SELECT * FROM tasks WHERE run = ? AND round = ? ORDER BY attempt, settled_at IS NULL, settled_at, node",
            *(run, round_),
        )
        return [task_row(row) for row in rows]

    def outstanding(self, run: RunId) -> list[TaskRow]:
        """Return the tasks of a run that are not settled, in the order of nodes."""
        rows = self._read(
            "SELECT * FROM tasks WHERE run = ? AND state = 'sent' ORDER BY node, round, attempt", run
        )
        return [task_row(row) for row in rows]

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
        counted = reply.run_id if outcome is Outcome.ACCEPTED else None
        self._write(
            "INSERT INTO updates (id, digest, task, outcome, reason, arrived_at, record, counted) VALUES "
            "(?, ?, ?, ?, ?, ?, ?, (SELECT round FROM rounds WHERE run = ? AND state = 'open'))",
            *(id_, digest, reply.task_id, outcome, reason, at, reply.model_dump_json(include=TOLD), counted),
        )
        return outcome

    def counted(self, run: RunId, round_: int) -> list[CountedUpdate]:
        """Return the updates that make the model of a round, in the order of nodes and then of tasks."""
        rows = self._read(
            "SELECT node, round, base, record FROM updates JOIN tasks ON tasks.id = task JOIN rounds USING (run, round) "
            "WHERE run = ? AND counted = ? AND kind = 'train' ORDER BY node, round, attempt",
            *(run, round_),
        )
        return [counted_update(row) for row in rows]

    def last_counted(self) -> dict[PartyId, TaskId]:
        """Return of each node the last task whose update is part of a model, or will be: its next task builds on that."""
        with self._lock:
            seen, known = self._counted
            rows = self._read(
                "SELECT position, rounds.state, node, tasks.id AS task FROM rounds "
                "CROSS JOIN updates ON counted = rounds.round "
                "CROSS JOIN tasks ON tasks.id = task AND tasks.run = rounds.run "
                "WHERE position > ? AND kind = 'train' AND rounds.state IN ('open', 'closed') "
                "ORDER BY position, tasks.round, attempt",
                seen,
            )
            closed = [row for row in rows if row["state"] == "closed"]
            if closed and not self._connection.in_transaction:
                counted = {PartyId(row["node"]): TaskId(row["task"]) for row in closed}
                self._counted = closed[-1]["position"], known | counted
            return known | {PartyId(row["node"]): TaskId(row["task"]) for row in rows}

    def updates_done(self) -> dict[PartyId, int]:
        """Return how many optimisation steps rounds asked of each node by number, as far as its updates count."""
        last = self._read(
            "SELECT streams FROM rounds WHERE streams IS NOT NULL ORDER BY position DESC LIMIT 1"
        )
        counted = self._read(
            "SELECT node, sum(asked.updates) AS more FROM rounds AS now CROSS JOIN updates ON counted = now.round "
            "CROSS JOIN tasks ON tasks.id = task AND tasks.run = now.run JOIN rounds AS asked USING (run, round) "
            "WHERE now.state = 'open' AND asked.kind = 'train' GROUP BY node"
        )
        done: dict[PartyId, int] = json.loads(last[0]["streams"]) if last else {}
        return done | {row["node"]: done.get(row["node"], 0) + row["more"] for row in counted}

    def expired(self, updates_from: int, models_from: int) -> set[Digest]:
        """Return the files that only rounds before these needed, those of updates and those of models."""
        needed = (
            "SELECT digest FROM updates JOIN tasks ON tasks.id = task WHERE coalesce(counted, round) >= ?1 UNION "
            "SELECT base FROM updates JOIN tasks ON tasks.id = task JOIN rounds USING (run, round) "
            "WHERE coalesce(counted, round) >= ?1 UNION "
            "SELECT base FROM tasks JOIN rounds USING (run, round) WHERE tasks.state = 'sent' UNION "
            "SELECT base FROM rounds WHERE round >= ?1 OR state = 'open' UNION "
            "SELECT model FROM rounds WHERE round >= ?2 AND model IS NOT NULL UNION "
            "SELECT initial_model FROM experiment"
        )
        every = "SELECT digest FROM updates UNION SELECT model FROM rounds WHERE model IS NOT NULL"
        rows = self._read(f"{every} EXCEPT SELECT * FROM ({needed})", updates_from, models_from)  # noqa: S608 - constants
        return {Digest(row[0]) for row in rows}

    def lost(self, rounds: int) -> set[PartyId]:
        """Return the nodes whose last attempt in one of the last so many training rounds came to nothing."""
        rows = self._read(
            "SELECT node, state, max(attempt) FROM tasks JOIN "
            "(SELECT run, round FROM rounds WHERE kind = 'train' ORDER BY position DESC LIMIT ?) USING (run, round) "
            "GROUP BY run, round, node",
            rounds,
        )
        return {PartyId(row["node"]) for row in rows if row["state"] in ("failed", "refused")}

    def set_aside(self) -> list[Row]:
        """Return the updates that were refused or quarantined, and the tasks that failed."""
        return self._read(_SET_ASIDE)

    # Reading back

    def rounds(self, run: RunId | None = None, round_: int | None = None) -> list[RoundRecord]:
        """Return rounds with what each node did: all of them, those of a run, or one."""
        given = {name: value for name, value in (("run", run), ("round", round_)) if value is not None}
        which, values = " AND ".join(f"{name} = ?" for name in given) or "TRUE", given.values()
        nodes: dict[tuple[str, int], dict[PartyId, NodeRecord]] = {}
        for row in self._read(_NODES.format(which), *values):
            # of several rows of a node the last one counts
            nodes.setdefault((row["run"], row["round"]), {})[row["node"]] = node_record(row)
        return [
            replace(round_record(row), nodes=nodes.get((row["run"], row["round"]), {}))
            for row in self._read(_ROUNDS.format(which), *values)
        ]

    def open_rounds(self) -> list[RoundRecord]:
        """Return the rounds that were begun and not ended; at most one."""
        return [round_record(row) for row in self._read("SELECT * FROM rounds WHERE state = 'open'")]

    def last_model(self) -> tuple[int, Digest] | None:
        """Return number and model of the last round that was closed, or None before the first."""
        rows = self._read(
            "SELECT round, model FROM rounds WHERE state = 'closed' AND kind = 'train' ORDER BY round DESC LIMIT 1"
        )
        return (int(rows[0]["round"]), Digest(rows[0]["model"])) if rows else None

    def closed_round(self, round_: int) -> RoundRecord | None:
        """Return the training round with this number that made a model, or None."""
        return next((one for one in self.rounds(round_=round_) if one.model is not None), None)

    def _read(self, statement: str, *values: object) -> list[Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: object) -> None:
        with self._lock:
            self._connection.execute(statement, values)


def _open(folder: Path) -> Database:
    schema = resources.files("researcher").joinpath("schema.sql").read_text(encoding="utf-8")
    return open_database(folder / FILE, kind="ledger", application_id=_APPLICATION_ID, migrations=(schema,))
