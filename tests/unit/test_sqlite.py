import errno
import multiprocessing
import sqlite3

import pytest

from common.errors import DatabaseBusyError, DatabaseVersionError, DiskFullError, ForeignDatabaseError
from common.sqlite import open_database, storage_errors, transaction

FIRST = "CREATE TABLE thing (name TEXT PRIMARY KEY) STRICT;"
SECOND = "ALTER TABLE thing ADD COLUMN note TEXT; CREATE INDEX by_note ON thing (note);"


def opened(path, *migrations, application_id=4711):
    return open_database(path, kind="journal", application_id=application_id, migrations=migrations)


def test_a_commit_is_synced_and_readers_do_not_block_writers(tmp_path):
    db = opened(tmp_path / "db", FIRST)
    settings = [
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    assert ["wal", 2, 1] == settings
    db.close()


def test_an_old_database_is_brought_up_to_date_and_keeps_its_rows(tmp_path):
    db = opened(tmp_path / "db", FIRST)
    db.execute("INSERT INTO thing VALUES ('kept')")
    db.close()
    db = opened(tmp_path / "db", FIRST, SECOND)
    assert [("kept", None)] == [tuple(row) for row in db.execute("SELECT name, note FROM thing")]
    assert 2 == db.execute("PRAGMA user_version").fetchone()[0]
    db.close()


def test_a_failed_migration_leaves_the_old_version(tmp_path):
    opened(tmp_path / "db", FIRST).close()
    with pytest.raises(sqlite3.OperationalError):
        opened(tmp_path / "db", FIRST, "CREATE TABLE other (id INTEGER) STRICT; SELECT * FROM nowhere;")
    db = opened(tmp_path / "db", FIRST)
    assert ["thing"] == [
        row["name"] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]
    db.close()


@pytest.mark.parametrize(
    "content", [b"hello, I am a diary", b"\x00" * 4096, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "db"
    path.write_bytes(content)
    with pytest.raises(ForeignDatabaseError):
        opened(path, FIRST)
    assert content == path.read_bytes()


def test_a_damaged_database_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "db"
    db = opened(path, FIRST)
    with transaction(db):
        db.executemany("INSERT INTO thing VALUES (?)", [(f"{number:0200}",) for number in range(500)])
    db.close()
    whole = path.read_bytes()
    damaged = whole[:8192] + b"\xab" * 4096 + whole[12288:]
    path.write_bytes(damaged)
    with pytest.raises(ForeignDatabaseError):
        opened(path, FIRST)
    assert damaged == path.read_bytes()


def test_a_database_of_another_program_is_refused(tmp_path):
    foreign = sqlite3.connect(tmp_path / "db")
    foreign.execute("CREATE TABLE recipes (name)")
    foreign.close()
    with pytest.raises(ForeignDatabaseError, match="another program"):
        opened(tmp_path / "db", FIRST)


def test_a_journal_is_not_taken_for_a_registry(tmp_path):
    opened(tmp_path / "db", FIRST).close()
    with pytest.raises(ForeignDatabaseError):
        opened(tmp_path / "db", FIRST, application_id=4712)


def test_a_database_of_a_newer_version_is_refused_with_both_versions(tmp_path):
    opened(tmp_path / "db", FIRST, SECOND).close()
    with pytest.raises(DatabaseVersionError) as caught:
        opened(tmp_path / "db", FIRST)
    assert (2, 1) == (caught.value.facts["theirs"], caught.value.facts["ours"])


def test_a_transaction_that_raises_changes_nothing(tmp_path):
    db = opened(tmp_path / "db", FIRST)
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        db.executemany("INSERT INTO thing VALUES (?)", [("once",), ("twice",), ("twice",)])
    assert [] == db.execute("SELECT * FROM thing").fetchall()
    db.close()


def test_a_full_disk_has_a_name_and_loses_nothing(tmp_path):
    db = opened(tmp_path / "db", FIRST)
    db.execute("INSERT INTO thing VALUES ('kept')")
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFullError), transaction(db):
        db.execute("INSERT INTO thing VALUES (?)", ("x" * 100_000,))
    assert ["kept"] == [row["name"] for row in db.execute("SELECT name FROM thing")]
    db.close()


def test_a_full_file_system_has_the_same_name(tmp_path):
    with pytest.raises(DiskFullError), storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, "no space left on device")


def test_a_database_that_somebody_holds_is_named(tmp_path):
    holder, other = opened(tmp_path / "db", FIRST), opened(tmp_path / "db", FIRST)
    other.execute("PRAGMA busy_timeout = 1")
    with transaction(holder), pytest.raises(DatabaseBusyError), transaction(other):
        pass
    holder.close()
    other.close()


def _open_and_write(path, barrier, name):
    barrier.wait(30)
    db = opened(path, FIRST, SECOND)
    with transaction(db):
        db.execute("INSERT INTO thing (name) VALUES (?)", (name,))
    db.close()


def test_processes_that_make_the_same_database_at_once_do_not_collide(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    others = [
        context.Process(target=_open_and_write, args=(tmp_path / "db", barrier, f"p{number}"))
        for number in range(4)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join(30)
    assert [0] * 4 == [other.exitcode for other in others]
    db = opened(tmp_path / "db", FIRST, SECOND)
    assert 4 == db.execute("SELECT count(*) FROM thing").fetchone()[0]
    db.close()
