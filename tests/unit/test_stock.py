"""A node keeps what tasks leave for later ones exactly as long as it can be asked for."""

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
FIRST, SECOND = ExperimentId(new_uuid()), ExperimentId(new_uuid())
SIZES = pytest.mark.parametrize("size", [100, INLINE_BYTES + 1], ids=["small", "large"])


class Shelf:
    def __init__(self, folder):
        self.folder = folder
        self.payloads = PayloadStore(folder / "payloads")
        self.journal = Journal(folder / "journal.sqlite")
        self.stock = Stock(self.journal, self.payloads)

    def keep(self, content, *, of, now=1.0):
        self.stock.keep_state(of, self.crop(content), now)

    def crop(self, content):
        """What was taken from a worker."""
        if len(content) <= INLINE_BYTES:
            return Crop(content, digest_of(content))
        path = self.folder / "draft"
        path.write_bytes(content)
        return Crop(path, digest_of(content))

    def drop(self, asked, base=None):
        for digest in self.stock.drop_states(asked, base and base.task_id):
            self.payloads.remove(digest)

    def state(self, of, *, by):
        found = self.stock.state(by, of.task_id)
        return found if found is None or isinstance(found, bytes) else found.read_bytes()

    @property
    def empty(self):
        rows = self.journal._db.execute("SELECT digest FROM payload UNION SELECT digest FROM state")
        return not rows.fetchall() and not list(self.payloads.digests())


def digest_of(content):
    return Digest(hashlib.sha256(content).hexdigest())


def task(researcher=LAB, experiment=FIRST):
    return Task(
        task_id=TaskId(new_uuid()),
        experiment_id=experiment,
        run_id=RunId(new_uuid()),
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
def test_the_state_that_a_new_task_builds_on_stays_and_the_others_go(shelf, size):
    first, second, third = task(), task(), task()
    shelf.keep(b"a" * size, of=first)
    shelf.keep(b"b" * size, of=second)
    shelf.drop(third, second)

    assert shelf.state(first, by=third) is None
    assert b"b" * size == shelf.state(second, by=third)
    shelf.drop(task())
    assert shelf.empty


@SIZES
def test_a_task_that_did_not_count_costs_nothing_of_the_one_before(shelf, size):
    counted, refused, again = task(), task(), task()
    shelf.keep(b"a" * size, of=counted)
    shelf.drop(refused, counted)
    shelf.keep(b"b" * size, of=refused)
    shelf.drop(again, counted)

    assert b"a" * size == shelf.state(counted, by=again)


@SIZES
def test_a_state_that_does_not_change_stays(shelf, size):
    first, second = task(), task()
    shelf.keep(b"a" * size, of=first)
    shelf.keep(b"a" * size, of=second)
    shelf.drop(task(), second)

    assert b"a" * size == shelf.state(second, by=task())


@SIZES
def test_experiments_that_happen_to_keep_the_same_do_not_lose_it_to_each_other(shelf, size):
    first, second = task(), task(experiment=SECOND)
    shelf.keep(b"a" * size, of=first)
    shelf.keep(b"a" * size, of=second)
    shelf.drop(task())

    assert b"a" * size == shelf.state(second, by=second)
    shelf.drop(task(experiment=SECOND))
    assert shelf.empty


@pytest.mark.parametrize("stranger", [{"researcher": CLINIC}, {"experiment": SECOND}], ids=["who", "what"])
def test_a_task_that_names_the_state_of_another_experiment_gets_nothing_of_it(shelf, stranger):
    own = task()
    shelf.keep(b"a" * 100, of=own)
    shelf.drop(task(**stranger))

    assert shelf.state(own, by=task(**stranger)) is None
    assert b"a" * 100 == shelf.state(own, by=task())


@SIZES
def test_what_is_not_committed_does_not_count(shelf, size):
    own = task()
    crop = shelf.crop(b"b" * size)

    def dies():
        with shelf.journal.transaction():
            shelf.stock.keep_state(own, crop, 2.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        dies()
    assert shelf.state(own, by=task()) is None


@SIZES
def test_a_state_that_nobody_asks_for_is_forgotten_in_the_end(shelf, size):
    old, new = task(), task()
    shelf.keep(b"a" * size, of=old, now=10.0)
    shelf.keep(b"b" * size, of=new, now=30.0)
    for digest in shelf.journal.prune(20.0):
        shelf.payloads.remove(digest)

    assert shelf.state(old, by=new) is None
    assert b"b" * size == shelf.state(new, by=new)


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
