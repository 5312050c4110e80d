"""A node notices changes of the data sets that it watches, says so, and uses them no more until somebody looked at them."""

import os
import queue

import pytest

from common.audit.record import Action
from common.audit.verify import read_records
from common.clock import SystemClock
from common.ids import DatasetId, PartyId
from common.messages import (
    ListReply,
    ListRequest,
    SearchReply,
    SearchRequest,
    TaskFailed,
    TaskProgress,
    TaskState,
)
from common.metrics import values
from common.settings import Timeouts
from node.figures import CHANGED_DATASETS
from node.home import NodeHome
from node.process import report
from node.registry import Registry
from node.steward.datasets import Changes, Datasets, NewDataset
from node.stops import StopWishes
from node.vigil import Touched, Vigil
from tests.support.nodes import ADD_ONE, DEADLINE_S, make_kits, write_table
from tests.support.trial import LAB, NORTH, Trial

QUIET_S = 0.5
"""The kernel tells at once; so long a silence means that there is nothing to tell."""


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return make_kits(tmp_path_factory.mktemp("kits") / "kits", {"north": "node"})


class Watch:
    """A vigil over the registry of a home, and what it posts."""

    def __init__(self, home):
        self.posted = queue.Queue()
        self.recorded = []
        self._registry = Registry(home.registry_path)
        self._stops = StopWishes(home.registry_path)
        self.vigil = Vigil(
            PartyId("north"),
            self._registry,
            self._stops,
            post=self.posted.put,
            record=self.recorded.append,
            clock=SystemClock(),
        )
        self.vigil.look()

    def next(self):
        """Wait for a touch and return what the vigil makes of it."""
        return self.vigil.take(self.posted.get(timeout=DEADLINE_S))

    def changed(self):
        """Wait until a touch is a change, and return the data set."""
        while (found := self.next()) is None:
            pass
        return found

    def settle(self):
        """Take all that was posted until now and just after."""
        found = []
        while True:
            try:
                found.append(self.vigil.take(self.posted.get(timeout=QUIET_S)))
            except queue.Empty:
                return found

    def close(self):
        self.vigil.close()
        self._stops.close()
        self._registry.close()


@pytest.fixture
def home(tmp_path, kits):
    return NodeHome.create(tmp_path / "home", kits["north"].path)


@pytest.fixture
def datasets(home):
    return Datasets(home, "anna")


@pytest.fixture
def table(tmp_path):
    (tmp_path / "data").mkdir()
    return write_table(tmp_path / "data" / "heart.csv")


@pytest.fixture
def watch(home):
    made = Watch(home)
    yield made
    made.close()


def wish(path, **more):
    return NewDataset(path=path, name="heart", tags=("heart",), description="the heart", **more)


def overwrite(path):
    path.write_text(path.read_text() + "99,1\n")


def replace_by_another(path):
    other = path.with_name("other.tmp")
    other.write_text("x,y\n1,2\n")
    other.rename(path)


def rename(path):
    path.rename(path.with_name("elsewhere.csv"))


def move_the_folder(path):
    path.parent.rename(path.parent.with_name("moved"))


@pytest.mark.parametrize("change", [overwrite, replace_by_another, rename, os.unlink])
def test_a_file_that_changes_is_marked_and_recorded(home, datasets, watch, table, change):
    made = datasets.add(wish(table, watched=True))
    watch.vigil.look()
    assert [None] == watch.settle()  # it is looked at once, when the watch begins

    change(table)

    assert made.dataset_id == watch.changed().dataset_id
    assert datasets.find("heart").changed_at is not None
    assert [(Action.DATASET_CHANGED, "north", made.dataset_id)] == [
        (one.action, one.actor, one.dataset_id) for one in watch.recorded
    ]
    assert (1.0, ("heart",)) == (values(CHANGED_DATASETS)[""], report(home).changed)


def test_in_a_folder_new_changed_and_moved_files_are_noticed_however_deep(tmp_path, datasets, watch):
    folder = tmp_path / "bag"
    (folder / "deep" / "deeper").mkdir(parents=True)
    file = folder / "deep" / "deeper" / "a.bin"
    file.write_bytes(b"a")
    datasets.add(wish(folder, data_type="custom", watched=True))
    watch.vigil.look()
    watch.settle()

    for change in (
        lambda: (folder / "b.bin").write_bytes(b"b"),
        lambda: file.write_bytes(b"other"),
        lambda: (folder / "deep").rename(folder / "shallow"),
        lambda: move_the_folder(folder / "b.bin"),
    ):
        change()
        assert "heart" == watch.changed().name
        if folder.exists():
            datasets.update("heart", Changes())
            watch.vigil.look()
            watch.settle()


def test_reading_touching_and_neighbours_mark_nothing(datasets, watch, table):
    datasets.add(wish(table, watched=True))
    watch.vigil.look()
    watch.settle()

    table.read_text()
    (table.parent / "neighbour.csv").write_text("x\n1\n")
    times = table.stat()
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert not any(watch.settle())
    assert datasets.find("heart").changed_at is None


def test_after_a_false_alarm_a_change_is_noticed_all_the_same(datasets, watch, table):
    datasets.add(wish(table, watched=True))
    watch.vigil.look()
    watch.settle()
    times = table.stat()
    with table.open("r+") as file:
        file.write("x")
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))
    alarm = watch.next()
    watch.settle()

    overwrite(table)

    assert alarm is None
    assert "heart" == watch.changed().name


def test_a_change_before_the_watch_began_is_noticed_too(home, datasets, table):
    datasets.add(wish(table, watched=True))
    overwrite(table)

    watch = Watch(home)
    assert "heart" == watch.changed().name
    watch.close()


def test_what_nobody_asked_to_watch_is_not_watched(datasets, watch, table):
    datasets.add(wish(table))
    watch.vigil.look()
    overwrite(table)

    assert [] == watch.settle()
    datasets.update("heart", Changes(watched=True))
    watch.vigil.look()
    assert [None] == watch.settle()
    datasets.update("heart", Changes(watched=False))
    watch.vigil.look()
    watch.settle()
    overwrite(table)
    assert [] == watch.settle()


def test_a_changed_set_is_used_again_after_a_check_if_it_is_as_it_was(home, datasets, watch, table):
    content = table.read_text()
    datasets.add(wish(table, watched=True))
    watch.vigil.look()
    watch.settle()
    overwrite(table)
    watch.changed()

    (one,) = datasets.check()
    assert "WRN-402" == one.problem.code
    assert datasets.find("heart").changed_at is not None
    table.write_text(content)
    assert datasets.find("heart").changed_at is not None
    (one,) = datasets.check()

    assert (None, None) == (one.problem, datasets.find("heart").changed_at)
    assert [("person anna", "heart")] == [
        (record.actor, record.note)
        for record in read_records(home.audit_path)
        if record.action is Action.DATASET_CHECKED
    ]
    watch.vigil.look()
    assert 0.0 == values(CHANGED_DATASETS)[""]
    overwrite(table)
    assert "heart" == watch.changed().name


def test_a_changed_set_is_another_after_an_update_and_is_watched_on(datasets, watch, table):
    made = datasets.add(wish(table, watched=True))
    watch.vigil.look()
    watch.settle()
    overwrite(table)
    watch.changed()

    updated = datasets.update("heart", Changes()).dataset

    assert (None, True, 17) == (updated.changed_at, updated.watched, updated.samples)
    assert made.dataset_id != updated.dataset_id
    watch.vigil.look()
    watch.settle()
    overwrite(table)
    assert updated.dataset_id == watch.changed().dataset_id


def test_a_touch_of_what_was_removed_meanwhile_is_of_no_interest(datasets, watch, table):
    made = datasets.add(wish(table, watched=True))
    datasets.remove("heart")

    assert None is watch.vigil.take(Touched(DatasetId(made.dataset_id)))


def test_a_set_whose_folder_is_gone_does_not_keep_others_from_being_watched(datasets, watch, table, tmp_path):
    (tmp_path / "other").mkdir()
    other = write_table(tmp_path / "other" / "lungs.csv")
    datasets.add(wish(table, watched=True))
    move_the_folder(table)
    datasets.add(NewDataset(other, "lungs", ("lungs",), "the lungs", watched=True))
    watch.vigil.look()

    assert ["heart"] == [one.name for one in watch.settle() if one]
    overwrite(other)
    assert "lungs" == watch.changed().name


def test_a_running_agent_notices_stops_its_task_tells_and_refuses_others(tmp_path):
    hang = ADD_ONE.replace("return -sum", "import threading; threading.Event().wait()\n        return -sum")
    trial = Trial(tmp_path, plans=(hang,), timeouts=Timeouts(presence_s=0.5))
    asks = {"sender": LAB, "recipients": (NORTH,)}
    try:
        Datasets(trial.node.home, "anna").update("trial", Changes(watched=True))
        (before,) = trial.lab.ask(ListRequest(**asks), ListReply).datasets
        trial.send(trial.request(source=hang))
        while trial.lab.take(TaskProgress).message.state is not TaskState.RUNNING:
            pass
        table = trial.node.home.path / "table.csv"
        content = table.read_text()
        overwrite(table)
        stopped = trial.answer(TaskFailed).message
        table.write_text(content)  # as it was, and yet nobody has looked
        trial.send(trial.request(source=hang, round_=1, dataset=before.dataset_id))
        refused = trial.answer(TaskFailed).message
        (listed,) = trial.lab.ask(ListRequest(**asks), ListReply).datasets
        found = trial.lab.ask(SearchRequest(**asks, tags=("trial",)), SearchReply).datasets
    finally:
        trial.close()

    assert ("WRN-402", "WRN-402") == (stopped.code, refused.code)
    assert (True, False, ()) == (before.available, listed.available, found)
    recorded = [record.action for record in read_records(trial.node.home.audit_path)]
    assert 1 == recorded.count(Action.DATASET_CHANGED)
