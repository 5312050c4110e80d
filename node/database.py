"""Hold the schema of the registry database: the data sets of a node, how they are read, and what its people decided about plans."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from common.sqlite import Database, open_database

_APPLICATION_ID: Final = int.from_bytes(b"WRNr")

_MIGRATIONS: Final = (
    """
    CREATE TABLE dataset (
        dataset_id  TEXT PRIMARY KEY,
        name        TEXT NOT NULL UNIQUE,
        data_type   TEXT NOT NULL,
        tags        TEXT NOT NULL,  -- JSON list, normalised and sorted
        description TEXT NOT NULL,
        path        TEXT NOT NULL,
        parameters  TEXT NOT NULL,  -- JSON object
        samples     INTEGER NOT NULL,
        shape       TEXT NOT NULL,  -- JSON list
        columns     TEXT NOT NULL,  -- JSON list of {name, dtype, missing}
        size_bytes  INTEGER NOT NULL,
        mtime_ns    INTEGER NOT NULL,
        sha256      TEXT NOT NULL,
        added_at    REAL NOT NULL
    ) STRICT;
    CREATE TABLE plan (
        plan_hash     TEXT PRIMARY KEY,
        name          TEXT NOT NULL,
        source        TEXT NOT NULL,
        state         TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'rejected')),
        requested_by  TEXT NOT NULL,
        request_note  TEXT NOT NULL,
        requested_at  REAL NOT NULL,
        decided_by    TEXT,
        decision_note TEXT NOT NULL DEFAULT '',
        decided_at    REAL
    ) STRICT;
    CREATE TABLE plan_event (
        plan_event_id INTEGER PRIMARY KEY,
        plan_hash     TEXT NOT NULL REFERENCES plan (plan_hash),
        state         TEXT NOT NULL,
        actor         TEXT NOT NULL,
        note          TEXT NOT NULL,
        at            REAL NOT NULL
    ) STRICT;
    CREATE INDEX plan_event_by_plan ON plan_event (plan_hash);
    """,
    """
    ALTER TABLE plan ADD COLUMN limits TEXT NOT NULL DEFAULT '[]';       -- JSON list of limits on arguments
    ALTER TABLE plan_event ADD COLUMN limits TEXT NOT NULL DEFAULT '[]';
    """,
    """
    ALTER TABLE dataset RENAME COLUMN mtime_ns TO stamp;              -- of folders, more than one time
    ALTER TABLE dataset ADD COLUMN classes TEXT NOT NULL DEFAULT '[]';   -- JSON list of names
    ALTER TABLE dataset ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE loading_plan (
        name        TEXT PRIMARY KEY,
        data_type   TEXT NOT NULL,
        options     TEXT NOT NULL,  -- JSON object
        description TEXT NOT NULL,
        saved_by    TEXT NOT NULL,
        saved_at    REAL NOT NULL
    ) STRICT;
    ALTER TABLE dataset ADD COLUMN loading TEXT REFERENCES loading_plan (name);  -- the plan that made its options
    ALTER TABLE dataset ADD COLUMN watched INTEGER NOT NULL DEFAULT 0;           -- whether the agent looks out for changes
    ALTER TABLE dataset ADD COLUMN changed_at REAL;                              -- when it saw one that nobody has looked at yet
    CREATE TABLE stop_wish (  -- tasks that people of the node want to be stopped; gone when the agent has done so
        task_id TEXT PRIMARY KEY
    ) STRICT;
    """,
)


def open_registry(path: Path) -> Database:
    """Open the registry database, making it or bringing it up to date first.

    Raises:
        StorageError: If the file cannot be used; see `common.sqlite.open_database`.
    """
    return open_database(path, kind="registry", application_id=_APPLICATION_ID, migrations=_MIGRATIONS)
