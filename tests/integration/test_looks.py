"""Whoever looks at values of the data is in the audit log, by which way ever they look."""

import hashlib

import pytest

from common.audit.record import Action, Entry
from common.audit.verify import read_records
from common.errors import DataFileGoneError, InvalidDatasetError
from common.ids import new_uuid
from node.home import NodeHome
from node.steward.datasets import Changes, Datasets, NewDataset
from node.steward.uses import Uses
from tests.support.nodes import make_kits, write_table


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make_kits(tmp_path_factory.mktemp("kits") / "kits", {"north": "node"})["north"].path


@pytest.fixture
def datasets(tmp_path, kit):
    return Datasets(NodeHome.create(tmp_path / "home", kit), "anna")


@pytest.fixture
def dataset(datasets, tmp_path):
    wish = NewDataset(write_table(tmp_path / "table.csv"), "table", ("table",), "a small table")
    return datasets.add(wish)


def looks(datasets):
    records = read_records(datasets.home.audit_path)
    return [record for record in records if record.action is Action.VALUES_SEEN]


def test_a_preview_of_a_registered_set_is_recorded_with_its_id(datasets, dataset):
    assert 3 == len(datasets.preview("table", 3))

    (look,) = looks(datasets)
    assert ("person anna", dataset.dataset_id, None) == (look.actor, look.dataset_id, look.digest)


def test_a_glimpse_of_other_files_is_recorded_by_the_digest_of_their_path(datasets, tmp_path):
    path = write_table(tmp_path / "Meyer_Hans.csv")
    datasets.glimpse(path, "tabular", {}, 2)

    (look,) = looks(datasets)
    assert hashlib.sha256(str(path).encode()).hexdigest() == look.digest
    assert "Meyer" not in look.model_dump_json()


def test_what_cannot_be_read_was_not_seen(datasets, tmp_path):
    with pytest.raises(DataFileGoneError):
        datasets.glimpse(tmp_path, "tabular", {}, 2)

    assert [] == looks(datasets)


def test_one_set_is_checked_alone(datasets, dataset):
    assert datasets.check_one("table", thorough=True).problem is None
    dataset.path.write_text("x,y\n1,1\n")
    assert "changed" in str(datasets.check_one(dataset.dataset_id).problem)


def test_a_set_may_keep_its_own_labels(datasets, dataset):
    datasets.check_labels(name="table", tags=["table"], of=dataset.dataset_id)
    with pytest.raises(InvalidDatasetError, match="taken"):
        datasets.check_labels(name="table")


def test_uses_are_counted_for_each_researcher_and_plan_until_the_set_is_another(datasets, dataset):
    def asked(researcher, plan, outcome="done"):
        datasets.home.audit().append(
            Entry(action=Action.TASK_ASKED, actor=researcher, outcome=outcome, dataset_id=dataset.dataset_id,
                  task_id=new_uuid(), plan_name=plan, plan_hash=hashlib.sha256(plan.encode()).hexdigest())
        )  # fmt: skip

    uses = Uses(datasets.home, "anna")
    assert () == uses.of(dataset.dataset_id)
    for researcher, plan in (("lab", "Heart"), ("lab", "Heart"), ("uni", "Heart"), ("lab", "Lung")):
        asked(researcher, plan)
    asked("thief", "Heart", outcome="refused")
    found = uses.of(dataset.dataset_id)

    assert [("lab", "Lung", 1), ("uni", "Heart", 1), ("lab", "Heart", 2)] == [
        (use.researcher, use.plan_name, use.tasks) for use in found
    ]
    dataset.path.write_text("x,y\n1,1\n2,2\n")
    assert () == uses.of(datasets.update("table", Changes()).dataset.dataset_id)
