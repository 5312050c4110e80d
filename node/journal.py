"""Record what a node received, did and sent, so that the death of any process costs time and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from common.ids import Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import LossPoint, TaskFailed, TrainReply, TrainRequest
from common.sqlite import open_database, sync, transaction
from node.curve import thinned
from node.task_events import (
    Phase,
    Run,
    Task,
)

_APPLICATION_ID: Final = int.from_bytes(b"WRNj")

_MIGRATIONS: Final = (
    """
    CREATE TABLE task (                -- what is not forgotten: a few rows, so that nothing needs an index
        id            INTEGER PRIMARY KEY,
        task_id       TEXT NOT NULL UNIQUE,
        researcher    TEXT NOT NULL,
        experiment_id TEXT NOT NULL,
        run_id        TEXT NOT NULL,
        round         INTEGER NOT NULL,
        deadline      REAL,
        received_at   REAL NOT NULL,
        phase         TEXT NOT NULL,
        attempts      INTEGER NOT NULL DEFAULT 0,
        model         TEXT NOT NULL,   -- digest of the global model
        reply         TEXT,            -- TrainReply or TaskFailed as JSON
        update_digest TEXT,            -- digest of the update, if there is one
        losses        TEXT NOT NULL DEFAULT '[]'  -- some of its losses as JSON
    ) STRICT;
    CREATE TABLE request (             -- large and never changed, so apart from what is
        task INTEGER PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
        body TEXT NOT NULL             -- TrainRequest as JSON
    ) STRICT;
    CREATE TABLE past (                -- tasks that are forgotten but for this
        task_id      TEXT PRIMARY KEY,
        forgotten_at REAL NOT NULL,
        attempts     INTEGER NOT NULL,
        losses       TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE payload (             -- models, updates and states small enough to ride inline; larger ones are files
        digest TEXT PRIMARY KEY,
        data   BLOB NOT NULL
    ) STRICT;
    CREATE TABLE state (               -- what this node keeps of a task for those that build on it; never leaves
        task_id       TEXT PRIMARY KEY,
        researcher    TEXT NOT NULL,
        experiment_id TEXT NOT NULL,
        digest        TEXT NOT NULL,
        changed_at    REAL NOT NULL
    ) STRICT;
    CREATE INDEX state_by_digest ON state (digest);
    CREATE INDEX state_by_experiment ON state (researcher, experiment_id);
    CREATE TABLE run (
        researcher    TEXT NOT NULL,
        experiment_id TEXT NOT NULL,
        run_id        TEXT NOT NULL,
        ended         INTEGER NOT NULL,
        PRIMARY KEY (researcher, experiment_id)
    ) STRICT;
    """,
)

_ANSWER: Final[TypeAdapter[TrainReply | TaskFailed]] = TypeAdapter(
    Annotated[TrainReply | TaskFailed, Field(discriminator="kind")]
)

_LOSSES: Final[TypeAdapter[tuple[LossPoint, ...]]] = TypeAdapter(tuple[LossPoint, ...])


@dataclass(frozen=True, slots=True)
class Record:
    """A task that was not forgotten."""

    task: Task
    phase: Phase
    request: TrainRequest


class Journal:
    """The tasks of one node on disk.

    Writes happen inside `transaction()` and survive the death of the process when the block ends; they are on disk, safe from a power
    cut, after `sync()`. One thread at a time may use it.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal, making it if there is none.

        Raises:
            ForeignDatabaseError: If the file is something else.
            DatabaseVersionError: If a newer Warren wrote it.
        """
        self._db = open_database(path, kind="journal", application_id=_APPLICATION_ID, migrations=_MIGRATIONS)
        self._keeps_states = self._db.execute("SELECT 1 FROM state").fetchone() is not None

    def transaction(self) -> AbstractContextManager[None]:
        """Group writes; all are kept when the block ends, or none if it raises; see `common.sqlite.transaction`."""
        return transaction(self._db, durable=False)

    def sync(self) -> None:
        """Bring to disk what the transactions until now have written; see `common.sqlite.sync`."""
        sync(self._db)

    def keep(self, digest: Digest, data: bytes | memoryview) -> None:
        """Record a small payload, whose SHA-256 the digest must be."""
        self._db.execute("INSERT OR IGNORE INTO payload VALUES (?, ?)", (digest, data))

    def payload(self, digest: Digest) -> bytes | None:
        """Return a small payload, or None if it is not here."""
        row = self._db.execute("SELECT data FROM payload WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row["data"])

    def receive(self, task: Task, request: TrainRequest) -> None:
        """Record a new task; one that is known stays as it is. None that is forgotten may come here."""
        added = self._db.execute(
            "INSERT OR IGNORE INTO task (task_id, researcher, experiment_id, run_id, round, deadline, received_at, phase, model)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                task.task_id,
                task.researcher,
                task.experiment_id,
                task.run_id,
                task.round,
                task.deadline,
                task.received_at,
                Phase.RECEIVED,
                task.model,
            ),
        )
        if added.rowcount == 1:
            body = request.model_dump_json()
            self._db.execute("INSERT INTO request VALUES (?, ?)", (added.lastrowid, body))

    def begin(self, task_id: TaskId) -> int:
        """Record that a worker has the task, and return how often it was begun by now."""
        row = self._db.execute(
            "UPDATE task SET phase = ?, attempts = attempts + 1 WHERE task_id = ? RETURNING attempts",
            (Phase.RUNNING, task_id),
        ).fetchone()
        return int(row["attempts"])

    def excuse(self) -> None:
        """Do not count the attempts in work: they end because the agent was told to stop."""
        self._db.execute("UPDATE task SET attempts = attempts - 1 WHERE phase = ?", (Phase.RUNNING,))

    def answer(self, reply: TrainReply | TaskFailed, update: Digest | None) -> None:
        """Record the answer to a task; it must be published until the broker has it."""
        losses = _LOSSES.dump_json(thinned(reply.losses)).decode() if isinstance(reply, TrainReply) else None
        self._db.execute(
            "UPDATE task SET phase = ?, reply = ?, update_digest = ?, losses = coalesce(?, losses) WHERE task_id = ?",
            (Phase.ANSWERED, reply.model_dump_json(), update, losses, reply.task_id),
        )

    def note_losses(self, task_id: TaskId, losses: tuple[LossPoint, ...]) -> None:
        """Record losses of a task in the place of those that were recorded before."""
        text = _LOSSES.dump_json(losses).decode()
        self._db.execute("UPDATE task SET losses = ? WHERE task_id = ?", (text, task_id))

    def losses(self, task_id: TaskId) -> tuple[LossPoint, ...]:
        """Return what is recorded of the losses of a task; nothing of one that is not known."""
        query = (
            "SELECT losses FROM task WHERE task_id = ?1 UNION ALL SELECT losses FROM past WHERE task_id = ?1"
        )
        row = self._db.execute(query, (task_id,)).fetchone()
        return () if row is None else _LOSSES.validate_json(row["losses"])

    def report(self, task_id: TaskId) -> None:
        """Record that the broker has the answer."""
        self._db.execute(
            "UPDATE task SET phase = ? WHERE task_id = ? AND phase = ?",
            (Phase.REPORTED, task_id, Phase.ANSWERED),
        )

    def forget(self, task_id: TaskId, now: float) -> list[Digest]:
        """Keep of a task only that it existed, and return the files that nothing needs any more."""
        row = self._db.execute(
            "DELETE FROM task WHERE task_id = ? RETURNING model, update_digest, attempts, losses", (task_id,)
        ).fetchone()
        if row is None:
            return []
        self._db.execute(
            "INSERT OR IGNORE INTO past VALUES (?, ?, ?, ?)", (task_id, now, row["attempts"], row["losses"])
        )
        return self._free(dict.fromkeys(digest for digest in row[:2] if digest is not None))

    def prune(self, before: float) -> list[Digest]:
        """Remove for good what was forgotten before this Unix time, and states that are as old.

        Returns:
            The files that nothing needs any more.
        """
        self._db.execute("DELETE FROM past WHERE forgotten_at < ?", (before,))
        return self._drop("DELETE FROM state WHERE changed_at < ? RETURNING digest", before)

    def state(self, task: Task, base: TaskId) -> Digest | None:
        """Return what was kept of an earlier task of the same experiment, or None if nothing was."""
        query = "SELECT digest FROM state WHERE task_id = ? AND researcher = ? AND experiment_id = ?"
        row = self._db.execute(query, (base, task.researcher, task.experiment_id)).fetchone()
        return None if row is None else Digest(row["digest"])

    def keep_state(self, task: Task, state: Digest, now: float) -> None:
        """Record what is kept of a task, together with its answer."""
        self._keeps_states = True
        self._db.execute(
            "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)",
            (task.task_id, task.researcher, task.experiment_id, state, now),
        )

    def drop_states(self, task: Task, base: TaskId | None) -> list[Digest]:
        """Forget what was kept of the tasks of an experiment, but for the one that a new task builds on.

        Returns:
            The files that nothing needs any more.
        """
        if not self._keeps_states:  # as with most plans
            return []
        return self._drop(
            "DELETE FROM state WHERE researcher = ? AND experiment_id = ? AND task_id IS NOT ? RETURNING digest",
            *(task.researcher, task.experiment_id, base),
        )

    def keep_run(self, run: Run) -> None:
        """Record the newest run of an experiment."""
        self._db.execute(
            "INSERT INTO run VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET run_id = excluded.run_id, ended = excluded.ended",
            (run.researcher, run.experiment_id, run.run_id, int(run.ended)),
        )

    def runs(self) -> Iterator[Run]:
        """Yield the newest run of every experiment."""
        for row in self._db.execute("SELECT * FROM run"):
            yield Run(
                PartyId(row["researcher"]),
                ExperimentId(row["experiment_id"]),
                RunId(row["run_id"]),
                bool(row["ended"]),
            )

    def open_tasks(self) -> Iterator[Record]:
        """Yield every task that is not forgotten, oldest first."""
        query = "SELECT * FROM task JOIN request ON request.task = task.id ORDER BY received_at, id"
        for row in self._db.execute(query).fetchall():
            yield _record(row)

    def reply(self, task_id: TaskId) -> TrainReply | TaskFailed | None:
        """Return the answer to a task, or None if there is none or it is forgotten."""
        row = self._db.execute("SELECT reply FROM task WHERE task_id = ?", (task_id,)).fetchone()
        return None if row is None or row["reply"] is None else _ANSWER.validate_json(row["reply"])

    def is_forgotten(self, task_id: TaskId) -> bool:
        """Tell whether a task was done with long ago."""
        query = "SELECT 1 FROM past WHERE task_id = ?"
        return self._db.execute(query, (task_id,)).fetchone() is not None

    def owners(self, update: Digest) -> dict[TaskId, PartyId]:
        """Return the tasks that have this update as their answer, each with the researcher it is meant for."""
        rows = self._db.execute("SELECT task_id, researcher FROM task WHERE update_digest = ?", (update,))
        return {TaskId(row["task_id"]): PartyId(row["researcher"]) for row in rows}

    def close(self) -> None:
        """Close the database; idempotent."""
        self._db.close()

    def _drop(self, deletion: str, *values: object) -> list[Digest]:
        return self._free(row["digest"] for row in self._db.execute(deletion, values).fetchall())

    def _free(self, digests: Iterable[str]) -> list[Digest]:
        """Remove those small payloads that nothing needs any more; return those that are files and nothing needs."""
        return [Digest(one) for one in digests if not self._needs(one) and not self._remove(one)]

    def _needs(self, digest: str) -> bool:
        query = (
            "SELECT 1 FROM task WHERE model = ?1 OR update_digest = ?1"
            " UNION ALL SELECT 1 FROM state WHERE digest = ?1"
        )
        return self._db.execute(query, (digest,)).fetchone() is not None

    def _remove(self, digest: str) -> bool:
        """Remove a small payload, and tell whether it was one."""
        return self._db.execute("DELETE FROM payload WHERE digest = ?", (digest,)).rowcount == 1


def _record(row: sqlite3.Row) -> Record:
    return Record(
        task=Task(
            task_id=TaskId(row["task_id"]),
            experiment_id=ExperimentId(row["experiment_id"]),
            run_id=RunId(row["run_id"]),
            round=row["round"],
            researcher=PartyId(row["researcher"]),
            model=Digest(row["model"]),
            deadline=row["deadline"],
            received_at=row["received_at"],
        ),
        phase=Phase(row["phase"]),
        request=TrainRequest.model_validate_json(row["body"]),
    )
