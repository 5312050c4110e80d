"""Open the SQLite databases in which parties keep what must survive: registry, journal, ledger.

Every database has an application id and a version. A file that is not what it should be is refused and left as it is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from common.errors import DatabaseBusyError, DatabaseVersionError, DiskFullError, ForeignDatabaseError
from common.metrics import TIMEOUTS
from common.settings import Timeouts

_LOCK_S: Final = Timeouts().lock_s
_FULL: Final = "PRAGMA synchronous = FULL"
_NORMAL: Final = "PRAGMA synchronous = NORMAL"
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNUSABLE: Final = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
)


class Database(sqlite3.Connection):
    """A connection that remembers whether its commits are synchronised, for asking costs more than knowing."""

    durable = True
    path: Path


def open_database(path: Path, *, kind: str, application_id: int, migrations: Sequence[str]) -> Database:
    """Open a database, making it or bringing it up to date first.

    Commits are on disk when they return (WAL, full sync). Several processes may have the file open; opening and migrating are
    serialised between them. The connection commits each statement by itself; group statements with `transaction`.
    It may be handed from thread to thread, but only one may use it at a time.

    Args:
        path: The file; its folder must exist.
        kind: What errors call it, "registry" for instance.
        application_id: Non-zero 32-bit number that marks the files of this kind.
        migrations: SQL scripts, the n-th of which leads from version n to n + 1. Each is applied in one transaction: after a
            failure the database has its old version. They must not contain transaction statements.

    Returns:
        A connection whose rows can be read by column name.

    Raises:
        ForeignDatabaseError: If the file is damaged, of another kind, or may not be opened; it was not changed.
        DatabaseVersionError: If a newer Warren wrote it; it was not changed.
        DiskFullError: If there is no space.
        DatabaseBusyError: If another process does not end its transaction.
    """
    with storage_errors(path, kind=kind), alone_in(path.parent):
        connection = sqlite3.connect(
            path, timeout=_LOCK_S, isolation_level=None, check_same_thread=False, factory=Database
        )
        try:
            connection.path = path
            connection.row_factory = sqlite3.Row
            version = _checked_version(connection, path, kind, application_id, len(migrations))
            _configure(connection)
            for number, script in enumerate(migrations[version:], start=version + 1):
                _migrate(connection, script, application_id, number)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def transaction(connection: Database, *, durable: bool = True) -> Iterator[None]:
    """Commit all statements of the block together, or none of them if it raises.

    The write lock is taken at the start, so what the block reads cannot change before it writes.

    Args:
        connection: Where.
        durable: Whether the block must be on disk when it ends. If not, it survives the death of the process all the same, and
            a power cut may undo it, never in part; the next durable block, or `sync`, brings it to disk too.

    Raises:
        DiskFullError: If there is no space.
        DatabaseBusyError: If another process does not end its transaction.
    """
    try:
        if connection.durable != durable:
            connection.execute(_FULL if durable else _NORMAL)
            connection.durable = durable
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except (sqlite3.DatabaseError, OSError) as error:
        with storage_errors(connection.path):
            raise error from None


def sync(connection: Database) -> None:
    """Bring to disk what was committed with `durable=False`.

    Raises:
        DiskFullError: If there is no space.
    """
    wal = f"{connection.path}-wal"
    with storage_errors(connection.path):
        descriptor = os.open(
            wal, os.O_RDONLY | os.O_CLOEXEC
        )  # closing it ends no lock: SQLite has none on this file
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def storage_errors(path: Path, *, kind: str = "database") -> Iterator[None]:
    """Turn the errors of the disk and of SQLite that a person can mend into typed ones.

    Raises:
        DiskFullError: If there is no space or a quota was reached.
        ForeignDatabaseError: If the file is damaged, no database, or may not be opened.
        DatabaseBusyError: If another process holds the database for longer than `Timeouts.lock_s`.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise DiskFullError(path=path) from error
        if code == sqlite3.SQLITE_BUSY:
            TIMEOUTS.labels(timeout="lock_s").inc()
            raise DatabaseBusyError(path=path, timeout_s=_LOCK_S) from error
        if code in _UNUSABLE:
            raise ForeignDatabaseError(path=path, kind=kind, reason=str(error)) from error
        raise
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFullError(path=path) from error
        raise


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of the same block for this folder, and from opening databases in it meanwhile.

    SQLite does not wait for others when it switches a file to WAL, so two processes that make the same database would collide.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _checked_version(
    connection: sqlite3.Connection, path: Path, kind: str, application_id: int, ours: int
) -> int:
    """Return the version of the database, 0 for a new one, without writing to it."""
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if mark != application_id and (mark or tables):
        raise ForeignDatabaseError(path=path, kind=kind, reason="it belongs to another program or purpose")
    damage = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if damage != "ok":
        raise ForeignDatabaseError(path=path, kind=kind, reason=damage)
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > ours:
        raise DatabaseVersionError(path=path, theirs=version, ours=ours)
    return version


def _configure(connection: sqlite3.Connection) -> None:
    """Set what SQLite remembers per file or per connection."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _migrate(connection: Database, script: str, application_id: int, version: int) -> None:
    """Apply one script and note the version that it leads to."""
    with transaction(connection):
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {application_id:d}")
        connection.execute(f"PRAGMA user_version = {version:d}")


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; `executescript` would commit between them."""
    statement = ""
    for piece in re.split(r"(?<=;)", script):
        statement += piece
        if sqlite3.complete_statement(statement):  # not so inside of strings, comments and triggers
            yield statement
            statement = ""
    if statement.strip():
        yield statement
