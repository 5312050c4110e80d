"""A node keeps what updates left out exactly as long as it is needed."""

import hashlib

import pytest

from common.ids import Digest, ExperimentId, PartyId, RunId, TaskId, new_uuid
from common.limits import INLINE_BYTES
from common.payload.store import PayloadStore
from node.journal import Journal
from node.stock import Stock
from node.task_events import (
    Task,
)
from node.worker.harvest import Crop

LAB, CLINIC = PartyId("lab"), PartyId("clinic")
FIRST, SECOND = RunId(new_uuid()), RunId(new_uuid())
SIZES = pytest.mark.parametrize("size", [100, INLINE_BYTES + 1], ids=["small", "large"])


class Shelf:
    def __init__(self, folder):
        self.folder = folder
        self.payloads = PayloadStore(folder / "payloads")
        self.journal = Journal(folder / "journal.sqlite")
        self.stock = Stock(self.journal, self.payloads)

    def keep(self, content, *, researcher=LAB, run=FIRST, now=1.0):
        for digest in self.stock.keep_residual(task(researcher, run), self.crop(content), now):
            self.payloads.remove(digest)

    def crop(self, content):
        """What was taken from a worker."""
        if len(content) <= INLINE_BYTES:
            return Crop(content, digest_of(content))
        path = self.folder / "draft"
        path.write_bytes(content)
        return Crop(path, digest_of(content))

    def drop(self, run=FIRST):
        for digest in self.stock.drop_residual(run):
            self.payloads.remove(digest)

    def residual(self, researcher=LAB, run=FIRST):
        found = self.stock.residual(task(researcher, run))
        return found if found is None or isinstance(found, bytes) else found.read_bytes()

    @property
    def empty(self):
        rows = self.journal._db.execute("SELECT digest FROM payload UNION SELECT digest FROM residual")
        return not rows.fetchall() and not list(self.payloads.digests())


def digest_of(content):
    return Digest(hashlib.sha256(content).hexdigest())


def task(researcher=LAB, run=FIRST):
    return Task(
        task_id=TaskId(new_uuid()),
        experiment_id=ExperimentId(new_uuid()),
        run_id=run,
        round=1,
        researcher=researcher,
        model=Digest("a" * 64),
        deadline=None,
        received_at=0.0,
    )


@pytest.fixture
def shelf(tmp_path):
    made = Shelf(tmp_path)
    yield made
    made.journal.close()


@SIZES
def test_a_residual_replaces_the_one_before(shelf, size):
    assert shelf.residual() is None
    shelf.keep(b"a" * size)
    shelf.keep(b"b" * size)

    assert b"b" * size == shelf.residual()
    shelf.drop()
    assert shelf.empty


@SIZES
def test_a_residual_that_does_not_change_stays(shelf, size):
    shelf.keep(b"a" * size)
    shelf.keep(b"a" * size)

    assert b"a" * size == shelf.residual()


@SIZES
def test_runs_that_happen_to_leave_the_same_do_not_lose_it_to_each_other(shelf, size):
    shelf.keep(b"a" * size)
    shelf.keep(b"a" * size, run=SECOND)
    shelf.drop(FIRST)

    assert b"a" * size == shelf.residual(run=SECOND)
    shelf.drop(SECOND)
    assert shelf.empty


def test_a_researcher_who_names_the_run_of_another_gets_nothing_of_it(shelf):
    shelf.keep(b"a" * 100)

    assert shelf.residual(researcher=CLINIC) is None


@SIZES
def test_what_is_not_committed_does_not_count(shelf, size):
    shelf.keep(b"a" * size)
    crop = shelf.crop(b"b" * size)

    def dies():
        with shelf.journal.transaction():
            shelf.stock.keep_residual(task(), crop, 2.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        dies()
    assert b"a" * size == shelf.residual()


@SIZES
def test_a_residual_of_a_run_that_nobody_ends_is_forgotten_in_the_end(shelf, size):
    shelf.keep(b"a" * size, now=10.0)
    shelf.keep(b"b" * size, run=SECOND, now=30.0)
    for digest in shelf.journal.prune(20.0):
        shelf.payloads.remove(digest)

    assert shelf.residual() is None
    assert b"b" * size == shelf.residual(run=SECOND)


@SIZES
@pytest.mark.parametrize(
    ("encoding", "said", "expected"),
    [("int8", None, None), ("int8", 500, None), ("int8+zstd", 500, 500), ("int8+zstd", None, "its size")],
)
def test_an_update_is_described_by_what_was_asked_for_and_what_is_there(
    shelf, size, encoding, said, expected
):
    manifest = shelf.stock.keep_update(shelf.crop(b"u" * size), encoding, said)

    assert (size, encoding, size <= INLINE_BYTES) == (manifest.size_bytes, manifest.encoding, manifest.inline)
    assert (size if expected == "its size" else expected) == manifest.decoded_bytes
    content = shelf.stock.content(manifest.sha256)
    assert b"u" * size == (content if isinstance(content, bytes) else content.read_bytes())
