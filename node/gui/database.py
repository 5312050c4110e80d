"""Keep who may use the page, and who is using it, in `gui.sqlite` of the home."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.sqlite import Database, open_database, transaction

_APPLICATION_ID: Final = int.from_bytes(b"WRNg")

_MIGRATIONS: Final = (
    """
    CREATE TABLE person (
        person_id   INTEGER PRIMARY KEY,
        name        TEXT NOT NULL UNIQUE,
        role        TEXT NOT NULL CHECK (role IN ('VIEWER', 'MANAGER', 'ADMIN')),
        password    TEXT,                        -- argon2id; none until the person has chosen one
        locked      INTEGER NOT NULL DEFAULT 0,
        totp_secret TEXT,                        -- none unless a second factor is in use
        totp_step   INTEGER NOT NULL DEFAULT 0,  -- of the last code that was used
        made_at     REAL NOT NULL,
        seen_at     REAL
    ) STRICT;
    CREATE TABLE recovery_code (
        sha256    TEXT PRIMARY KEY,
        person_id INTEGER NOT NULL REFERENCES person (person_id) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE link (                          -- of whom person_id is empty, that makes the first admin
        sha256     TEXT PRIMARY KEY,
        person_id  INTEGER REFERENCES person (person_id) ON DELETE CASCADE,
        expires_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE session (
        sha256    TEXT PRIMARY KEY,
        person_id INTEGER NOT NULL REFERENCES person (person_id) ON DELETE CASCADE,
        complete  INTEGER NOT NULL,              -- 0 while the second factor is missing
        made_at   REAL NOT NULL,
        seen_at   REAL NOT NULL,
        said      TEXT NOT NULL DEFAULT ''       -- what the next page tells
    ) STRICT;
    CREATE TABLE secret (
        name  TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE draft (                         -- data sets that somebody is about to register
        draft_id   TEXT PRIMARY KEY,
        person_id  INTEGER NOT NULL REFERENCES person (person_id) ON DELETE CASCADE,
        content    TEXT NOT NULL,                -- JSON; see drafts.py
        changed_at REAL NOT NULL
    ) STRICT;
    """,
)


class Store:
    """The database of the page. Thread-safe: one thread at a time is inside of `use`."""

    def __init__(self, path: Path) -> None:
        """Open the database, making it if there is none; only its owner can read it.

        Raises:
            StorageError: If the file cannot be used; see `common.sqlite.open_database`.
        """
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = open_database(
            path, kind="web page", application_id=_APPLICATION_ID, migrations=_MIGRATIONS
        )
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def use(self, *, durable: bool = True) -> Iterator[Database]:
        """Do all of the block in one transaction, or nothing of it if it raises; inside of another block it is part of that.

        Raises:
            DiskFullError: If there is no space.
            DatabaseBusyError: If another process does not end its transaction.
        """
        with self._lock:
            if self._db.in_transaction:
                yield self._db
            else:
                with transaction(self._db, durable=durable):
                    yield self._db

    @contextlib.contextmanager
    def read(self) -> Iterator[Database]:
        """Read without a transaction."""
        with self._lock:
            yield self._db

    def secret(self, name: str) -> bytes:
        """Return 32 random bytes that stay the same for this database."""
        with self.use() as db:
            db.execute("INSERT OR IGNORE INTO secret VALUES (?, ?)", (name, secrets.token_bytes(32)))
            return bytes(db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()["value"])

    def close(self) -> None:
        """Close the database; idempotent."""
        with self._lock:
            self._db.close()


def new_token() -> str:
    """Return 256 random bits, as text that fits into a cookie and a path."""
    return secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    """Return what is stored of a token. It is random, so a fast hash does: nobody can guess it, and the file does not give it away."""
    return hashlib.sha256(token.encode()).hexdigest()
