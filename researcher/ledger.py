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
from typing import Final

from common.errors import NoSuchExperimentError
from common.ids import Digest, PartyId, RunId, TaskId
from common.messages import TrainReply
from common.sqlite import Database, open_database, transaction
from researcher.history import NodeRecord, RoundRecord
from researcher.round import RoundState
from researcher.rows import (
    TOLD,
    CountedUpdate,
    ExperimentRow,
    Outcome,
    TaskRow,
    counted_update,
    experiment_columns,
    experiment_row,
    node_record,
    round_columns,
    round_record,
    task_row,
)

FILE: Final = "ledger.sqlite"
_APPLICATION_ID: Final = int.from_bytes(b"WRNl")
_NODES: Final = """
    SELECT tasks.*, run, round, opened_at, digest, outcome, updates.reason AS update_reason, arrived_at, record
    FROM rounds CROSS JOIN tasks ON asked = rounds.position LEFT JOIN updates ON task = tasks.position
    WHERE {} ORDER BY node, attempt, outcome = 'accepted'
"""
"""A cross join keeps the order of tables: of a long experiment, one round is read, and not all tasks."""
_ROUNDS: Final = "SELECT * FROM rounds WHERE {} ORDER BY position"
_TASKS: Final = "SELECT tasks.*, run, round FROM rounds CROSS JOIN tasks ON asked = rounds.position WHERE "
_OUT: Final = "SELECT tasks.*, run, round FROM tasks CROSS JOIN rounds ON asked = rounds.position WHERE tasks.state = 'sent' AND "


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
    def create(cls, folder: Path) -> Ledger:
        """Make the ledger of a new experiment in an existing folder; there is one once `save` was called.

        Raises:
            StorageError: If a file is there that is not a ledger of this version, or the disk is full.
        """
        return cls(_open(folder))

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
    def together(self, *, durable: bool = True) -> Iterator[None]:
        """Commit everything that the block writes at once, or none of it; a power cut may undo what need not be durable."""
        with self._lock:
            if self._connection.in_transaction:  # a block in a block is part of it
                yield
                return
            with transaction(self._connection, durable=durable):
                yield

    # The experiment

    def save(self, experiment: ExperimentRow) -> None:
        """Write the experiment in place of what was there."""
        self._insert("INSERT OR REPLACE INTO experiment", {"only": 1, **experiment_columns(experiment)})

    def experiment(self) -> ExperimentRow:
        """Return the experiment."""
        return experiment_row(self._read("SELECT * FROM experiment")[0])

    # Rounds and tasks

    def open_round(self, record: RoundRecord, tasks: Iterable[TaskRow], *, updates: int = 0) -> None:
        """Begin a round: after this it is resumed if the process dies, with the model as it was sent.

        Args:
            record: The round; its nodes are those of the tasks.
            tasks: What is asked for first.
            updates: Optimisation steps that each task is asked for; 0 if it is asked for epochs.
        """
        with self.together():
            self._insert("INSERT INTO rounds", {**round_columns(record), "updates": updates})
            for task in tasks:
                self.add_task(task)

    def add_task(self, task: TaskRow) -> None:
        """Note a task before it is sent."""
        self._write(
            "INSERT INTO tasks (id, asked, node, dataset, attempt, state, sent_at) VALUES "
            "(?, (SELECT position FROM rounds WHERE round = ? AND run = ?), ?, ?, ?, ?, ?)",
            *(task.id, task.round, task.run, task.node, task.dataset, task.attempt, task.state, task.sent_at),
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
            "UPDATE tasks SET state = 'cancelled', settled_at = ? WHERE state = 'sent' "
            "AND (SELECT run FROM rounds WHERE position = asked) = ?",
            *(at, run),
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
        rows = self._read(_TASKS + "id = ?", task)
        return task_row(rows[0]) if rows else None

    def tasks_of_run(self, run: RunId) -> list[TaskRow]:
        """Return all tasks of a run, those of each node in the order in which they were sent."""
        rows = self._read(_TASKS + "run = ? ORDER BY round, attempt, node", run)
        return [task_row(row) for row in rows]

    def counted_tasks(self, run: RunId, round_: int) -> list[TaskId]:
        """Return the tasks whose updates count in a round, in the order in which they came."""
        rows = self._read(
            "SELECT tasks.id FROM rounds CROSS JOIN updates ON counted = rounds.position "
            "CROSS JOIN tasks ON tasks.position = task WHERE run = ? AND round = ? ORDER BY arrived_at",
            *(run, round_),
        )
        return [TaskId(row["id"]) for row in rows]

    def tasks(self, run: RunId, round_: int) -> list[TaskRow]:
        """Return the tasks of a round: the settled ones in the order in which they were settled, then the others."""
        rows = self._read(
            _TASKS + "run = ? AND round = ? ORDER BY attempt, settled_at IS NULL, settled_at, node",
            *(run, round_),
        )
        return [task_row(row) for row in rows]

    def outstanding(self, run: RunId) -> list[TaskRow]:
        """Return the tasks of a run that are not settled, in the order of nodes."""
        rows = self._read(_OUT + "run = ? ORDER BY node, round, attempt", run)
        return [task_row(row) for row in rows]

    # Updates

    def add_update(
        self, reply: TrainReply, outcome: Outcome, at: float, *, reason: str | None = None
    ) -> Outcome | None:
        """Account for an update of a task that is known.

        Returns:
            The outcome that was written, which is `quarantined` if another update of the task is there; None if this very
            update is there already, so that nothing was written.
        """
        digest = reply.update.sha256 if reply.update else ""
        rows = self._read(
            "SELECT tasks.position, digest FROM tasks LEFT JOIN updates ON task = tasks.position WHERE id = ?",
            reply.task_id,
        )
        task, known = rows[0]["position"], {row["digest"] for row in rows}
        if digest in known:
            return None
        if known != {None}:
            outcome, reason = Outcome.QUARANTINED, "another update of this task came before"
        self._write(
            "INSERT INTO updates (task, digest, outcome, reason, arrived_at, record, counted) VALUES "
            "(?, ?, ?, ?, ?, ?, (SELECT position FROM open_round WHERE ?))",
            *(task, digest, outcome, reason, at, reply.model_dump_json(include=TOLD)),
            outcome is Outcome.ACCEPTED,
        )
        return outcome

    def counted(self, run: RunId, round_: int) -> list[CountedUpdate]:
        """Return the updates that make the model of a round, in the order of nodes and then of tasks."""
        rows = self._read(
            "SELECT node, origin.round, origin.base, record FROM rounds AS made CROSS JOIN updates ON counted = made.position "
            "CROSS JOIN tasks ON tasks.position = task CROSS JOIN rounds AS origin ON origin.position = asked "
            "WHERE made.run = ? AND made.round = ? AND made.kind = 'train' ORDER BY node, origin.round, attempt",
            *(run, round_),
        )
        return [counted_update(row) for row in rows]

    def last_counted(self) -> dict[PartyId, TaskId]:
        """Return of each node the last task whose update is part of a model, or will be: its next task builds on that."""
        with self._lock:
            seen, known = self._counted
            rows = self._read(
                "SELECT made.position, made.state, node, tasks.id AS task FROM rounds AS made "
                "CROSS JOIN updates ON counted = made.position CROSS JOIN tasks ON tasks.position = task "
                "WHERE made.position > ? AND kind = 'train' AND made.state IN ('open', 'closed') "
                "ORDER BY made.position, asked, attempt",
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
            "SELECT node, sum(origin.updates) AS more FROM rounds AS made CROSS JOIN updates ON counted = made.position "
            "CROSS JOIN tasks ON tasks.position = task CROSS JOIN rounds AS origin ON origin.position = asked "
            "WHERE made.position = (SELECT position FROM open_round) AND made.kind = 'train' GROUP BY node"
        )
        done: dict[PartyId, int] = json.loads(last[0]["streams"]) if last else {}
        return done | {row["node"]: done.get(row["node"], 0) + row["more"] for row in counted}

    def expired(self, updates_from: int, models_from: int) -> set[Digest]:
        """Return the files that only rounds before these needed, those of updates and those of models."""
        counted = (
            "updates JOIN tasks ON tasks.position = task JOIN rounds AS origin ON origin.position = asked "
            "LEFT JOIN rounds AS made ON made.position = counted WHERE coalesce(made.round, origin.round) >= ?1"
        )
        needed = (
            f"SELECT digest FROM {counted} UNION SELECT origin.base FROM {counted} UNION "  # noqa: S608 - constants
            "SELECT base FROM tasks JOIN rounds ON rounds.position = asked WHERE tasks.state = 'sent' UNION "
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
            "SELECT node, state, max(attempt) FROM "
            "(SELECT position AS late FROM rounds WHERE kind = 'train' ORDER BY position DESC LIMIT ?) "
            "CROSS JOIN tasks ON asked = late GROUP BY late, node",
            rounds,
        )
        return {PartyId(row["node"]) for row in rows if row["state"] in ("failed", "refused")}

    def set_aside(self) -> list[Row]:
        """Return the updates that were refused or quarantined, and the tasks that failed."""
        return self._read("SELECT * FROM set_aside ORDER BY round, node, attempt, at")

    # Small payloads

    def keep(self, digest: Digest, data: bytes) -> None:
        """Keep a payload, whose SHA-256 the digest must be."""
        self._write("INSERT OR IGNORE INTO payloads (digest, data) VALUES (?, ?)", digest, data)

    def payload(self, digest: Digest) -> bytes | None:
        """Return a payload, or None if it is not here."""
        rows = self._read("SELECT data FROM payloads WHERE digest = ?", digest)
        return rows[0]["data"] if rows else None

    def drop(self, digests: Iterable[Digest]) -> int:
        """Forget payloads, and return how many of them were here."""
        with self.together(durable=False):
            known = self._connection.total_changes
            for digest in digests:
                self._write("DELETE FROM payloads WHERE digest = ?", digest)
            return self._connection.total_changes - known

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
        return [round_record(row) for row in self._read("SELECT * FROM open_round")]

    def last_model(self) -> tuple[int, Digest] | None:
        """Return number and model of the last round that was closed, or None before the first."""
        rows = self._read(
            "SELECT round, model FROM rounds WHERE state = 'closed' AND kind = 'train' ORDER BY position DESC LIMIT 1"
        )
        return (int(rows[0]["round"]), Digest(rows[0]["model"])) if rows else None

    def closed_round(self, round_: int) -> RoundRecord | None:
        """Return the training round with this number that made a model, or None."""
        return next((one for one in self.rounds(round_=round_) if one.model is not None), None)

    def _read(self, statement: str, *values: object) -> list[Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _insert(self, into: str, columns: Mapping[str, object]) -> None:
        self._write(
            f"{into} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", *columns.values()
        )

    def _write(self, statement: str, *values: object) -> None:
        with self._lock:
            self._connection.execute(statement, values)


def _open(folder: Path) -> Database:
    schema = resources.files("researcher").joinpath("schema.sql").read_text(encoding="utf-8")
    return open_database(folder / FILE, kind="ledger", application_id=_APPLICATION_ID, migrations=(schema,))
