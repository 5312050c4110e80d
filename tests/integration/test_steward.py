"""The people of a node act through one core: rule, change and audit entry in one call, whoever else acts meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.audit.record import Action
from common.audit.selection import Selection, select
from common.audit.verify import read_records, verify
from common.errors import (
    AuditBrokenError,
    DataFileError,
    InvalidDatasetError,
    InvalidLimitError,
    InvalidSettingsError,
    NoSuchDatasetError,
    PolicyChangedError,
    TagsOverlapError,
)
from common.messages import PlanState
from node.approval import Approvals
from node.home import NodeHome
from node.registry import Registry
from node.steward.agents import AgentControl
from node.steward.datasets import Changes, Datasets, NewDataset
from node.steward.loading import Loading
from node.steward.looks import Looks, Subject
from node.steward.plans import Plans
from node.steward.policies import PolicyFile
from node.steward.tasks import Tasks
from tests.support.nodes import make_kits, write_table

DEADLINE_S = 60


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make_kits(tmp_path_factory.mktemp("kits") / "kits", {"north": "node"})["north"].path


@pytest.fixture
def home(tmp_path, kit):
    return NodeHome.create(tmp_path / "home", kit)


@pytest.fixture
def datasets(home):
    return Datasets(home, "anna")


def wish(folder: Path, name: str, **more: object) -> NewDataset:
    fields = {"path": write_table(folder / f"{name}.csv"), "name": name, "tags": (name,)} | more
    return NewDataset(description=f"the set {name}", **fields)


def recorded(home, *actions):
    return [
        (record.actor, record.action, record.note)
        for record in read_records(home.audit_path)
        if record.action in actions
    ]


def together(*acts):
    """Do all of this at the same moment; return the results, and the errors that were raised instead."""
    gate = threading.Barrier(len(acts))

    def run(act):
        gate.wait(DEADLINE_S)
        try:
            return act()
        except (TagsOverlapError, InvalidDatasetError, NoSuchDatasetError, PolicyChangedError) as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return [one.result(DEADLINE_S) for one in [pool.submit(run, act) for act in acts]]


def errors(results):
    return [one for one in results if isinstance(one, Exception)]


def test_every_change_of_a_data_set_is_recorded_with_its_person(home, datasets, tmp_path):
    made = datasets.add(wish(tmp_path, "heart"))
    updated = Datasets(home, "ben").update("heart", Changes(name="hearts"))
    datasets.remove("hearts")

    assert not updated.is_another
    assert (made.dataset_id, "heart", "hearts") == (
        updated.dataset.dataset_id,
        updated.before.name,
        updated.dataset.name,
    )
    assert [
        ("person anna", Action.DATASET_REGISTERED, "heart"),
        ("person ben", Action.DATASET_UPDATED, "hearts"),
        ("person anna", Action.DATASET_REMOVED, "hearts"),
    ] == recorded(home, Action.DATASET_REGISTERED, Action.DATASET_UPDATED, Action.DATASET_REMOVED)


def test_what_cannot_be_recorded_does_not_happen(home, datasets, tmp_path):
    datasets.add(wish(tmp_path, "heart"))
    log = next(home.audit_path.glob("*.jsonl"))
    log.write_bytes(log.read_bytes()[:-20] + b"\n")

    with pytest.raises(AuditBrokenError):
        datasets.add(wish(tmp_path, "lung"))
    with pytest.raises(AuditBrokenError):
        datasets.remove("heart")
    with pytest.raises(AuditBrokenError):
        PolicyFile(home, "anna").replace("", seen=PolicyFile(home, "anna").read().sha256)

    assert ["heart"] == [one.name for one in datasets.list()]
    assert home.settings_path.read_text()


def test_of_sets_with_the_same_tags_one_wins_however_many_add_them_at_once(home, datasets, tmp_path):
    wishes = [wish(tmp_path, f"heart{number}", tags=("heart",)) for number in range(4)]

    results = together(*(lambda one=one: datasets.add(one) for one in wishes))

    assert [TagsOverlapError] * 3 == [type(one) for one in errors(results)]
    assert 1 == len(datasets.list()) == len(recorded(home, Action.DATASET_REGISTERED))
    verify(home.audit_path)


def test_two_updates_at_once_lose_nothing_unawares(home, datasets, tmp_path):
    """Both may succeed, one after the other; never does one undo the other."""
    datasets.add(wish(tmp_path, "heart"))

    renamed, described = together(
        lambda: datasets.update("heart", Changes(name="hearts")),
        lambda: datasets.update("heart", Changes(description="many hearts")),
    )

    (now,) = datasets.list()
    lost = errors([renamed, described])
    assert ("hearts" == now.name) != (renamed in lost)
    assert ("many hearts" == now.description) != (described in lost)


def test_an_update_that_rests_on_what_is_no_more_is_refused(home, datasets, tmp_path):
    seen = datasets.add(wish(tmp_path, "heart"))
    datasets.update("heart", Changes(name="hearts"))

    registry = Registry(home.registry_path)
    with pytest.raises(InvalidDatasetError, match="somebody else changed it meanwhile"):
        registry.update(seen, description="something else")
    registry.close()

    assert ["hearts"] == [one.name for one in datasets.list()]


def test_data_loading_plans_are_kept_and_removed_on_record_or_not_at_all(home):
    loading = Loading(home, "anna")
    loading.save("semicolons", "tabular", {"delimiter": ";"})
    loading.save("tabs", "tabular", {"delimiter": "\t"})
    loading.remove("tabs")

    assert [
        ("person anna", Action.LOADING_PLAN_SAVED, "semicolons"),
        ("person anna", Action.LOADING_PLAN_SAVED, "tabs"),
        ("person anna", Action.LOADING_PLAN_REMOVED, "tabs"),
    ] == recorded(home, Action.LOADING_PLAN_SAVED, Action.LOADING_PLAN_REMOVED)
    log = next(home.audit_path.glob("*.jsonl"))
    log.write_bytes(log.read_bytes()[:-20] + b"\n")
    with pytest.raises(AuditBrokenError):
        loading.remove("semicolons")
    with pytest.raises(AuditBrokenError):
        loading.save("bars", "tabular", {"delimiter": "|"})
    assert ["semicolons"] == [one.plan.name for one in loading.list()]


def test_a_look_changes_nothing_and_keeps_the_rules_of_the_policy(home, datasets, tmp_path):
    path = write_table(tmp_path / "heart.csv")

    assert "tabular" == datasets.detect(path)
    assert 16 == datasets.look(path, "tabular", {}).samples
    assert 2 == len(datasets.glimpse(path, "tabular", {}, 2))
    assert () == datasets.list()
    with pytest.raises(InvalidDatasetError):
        datasets.look(path, "tabular", {"colour": "red"})


def test_what_belongs_to_the_node_is_no_data_wherever_links_lead(home, datasets, tmp_path):
    """Else who may write where the data lie, and look at values, could look at the keys of the node."""
    path = write_table(tmp_path / "heart.csv")
    made = datasets.add(NewDataset(path, "heart", ("heart",), "the set heart"))
    path.unlink()
    path.symlink_to(next(home.kit_path.glob("*key*")))

    acts = [
        lambda: datasets.preview("heart", 1),
        lambda: datasets.update("heart", Changes(description="another text")),
        lambda: datasets.look(path, "tabular", {}),
        lambda: datasets.add(NewDataset(path, "keys", ("keys",), "the keys", "tabular")),
        lambda: datasets.update("heart", Changes(path=home.kit_path)),
        lambda: datasets.look(tmp_path, "custom", {}),
        lambda: datasets.look(home.path, "custom", {}),
        lambda: datasets.look(home.path / "registry.sqlite-wal", "custom", {}),
        lambda: Looks(home, "anna").record(Subject(path, "tabular", {}), "summary"),
    ]
    for act in acts:
        with pytest.raises(DataFileError, match="belongs to the node itself"):
            act()

    assert (made,) == datasets.list()
    assert [] == recorded(home, Action.VALUES_SEEN)


def test_other_files_in_the_home_are_data_like_any(home, datasets):
    assert 16 == datasets.look(write_table(home.path / "table.csv"), "tabular", {}).samples


PLAN = "class Plan:\n    rate = {rate}\n"


def proposed(home, source):
    approvals = Approvals(home.registry_path)
    known = approvals.approve_source(source, name="Plan", by="somebody").plan_hash
    approvals.close()
    return known


def test_a_plan_is_read_with_what_differs_and_decided_with_its_limits_on_record(home, tmp_path):
    plans = Plans(home, "anna")
    file = tmp_path / "plan.py"
    file.write_text(PLAN.format(rate=1))
    first = plans.approve_file(file)
    known = proposed(home, PLAN.format(rate=2))

    reading = plans.read(known[:10])
    approved = plans.approve(known, note="fine", limits=["epochs<=5"])
    rejected = plans.reject(known, note="not any more")

    assert first == reading.before
    assert "+    rate = 2" in reading.difference
    assert ("anna", PlanState.APPROVED, "epochs<=5") == (
        approved.decided_by,
        approved.state,
        str(*approved.limits),
    )
    assert (PlanState.REJECTED, ()) == (rejected.state, rejected.limits)
    assert [
        ("person anna", Action.PLAN_APPROVED, None),
        ("person anna", Action.PLAN_APPROVED, "fine; epochs<=5"),
        ("person anna", Action.PLAN_REJECTED, "not any more"),
    ] == recorded(home, Action.PLAN_APPROVED, Action.PLAN_REJECTED)
    with pytest.raises(InvalidLimitError):
        plans.approve(known, limits=["epochs"])


def test_plans_are_decided_while_an_agent_reads_them(home):
    """The agent keeps one connection open; it sees each decision, whole."""
    known = proposed(home, PLAN.format(rate=1))
    agent = Approvals(home.registry_path)
    seen = set()
    done = threading.Event()

    def decide():
        for _ in range(10):
            Plans(home, "anna").approve(known, limits=["epochs<=5"])
            Plans(home, "ben").reject(known, note="no")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        deciding = pool.submit(decide)
        while not done.is_set() and not deciding.done():
            plan = agent.get(known)
            seen.add((plan.decided_by, plan.state, len(plan.limits)))
        deciding.result(DEADLINE_S)
    seen.add((agent.get(known).decided_by, agent.state(known), len(agent.get(known).limits)))
    agent.close()

    assert seen <= {
        ("somebody", PlanState.APPROVED, 0),
        ("anna", PlanState.APPROVED, 1),
        ("ben", PlanState.REJECTED, 0),
    }
    assert ("ben", PlanState.REJECTED, 0) in seen


def test_a_policy_is_tried_replaced_and_recorded(home):
    policy = PolicyFile(home, "anna")
    before = policy.read()

    with pytest.raises(InvalidSettingsError, match="max_workers"):
        policy.replace("max_workers = 0", seen=before.sha256)
    assert before == policy.read()
    assert 2 == policy.replace("max_workers = 2\n", seen=before.sha256).max_workers

    after = policy.read()
    assert ("max_workers = 2\n", 2) == (after.text, after.policy.max_workers)
    (record,) = [one for one in read_records(home.audit_path) if one.action is Action.POLICY_CHANGED]
    assert ("person anna", after.sha256, 16) == (record.actor, record.digest, record.bytes)


def test_of_two_people_who_saw_the_same_policy_one_replaces_it(home):
    seen = PolicyFile(home, "anna").read().sha256

    results = together(
        *(
            lambda n=n: PolicyFile(home, f"person{n}").replace(f"max_workers = {n}", seen=seen)
            for n in (2, 3, 4)
        )
    )

    assert [PolicyChangedError] * 2 == [type(one) for one in errors(results)]
    assert 1 == len(recorded(home, Action.POLICY_CHANGED))
    assert home.policy() in results


def test_a_policy_that_is_wrong_is_shown_with_what_is_wrong(home):
    home.settings_path.write_text("max_wokers = 2\n")

    found = PolicyFile(home, "anna").read()

    assert ("max_wokers = 2\n", None) == (found.text, found.policy)
    assert "max_wokers" in str(found.problem)


def test_a_policy_that_is_wrong_can_be_replaced_on_record(home):
    home.settings_path.write_text("max_wokers = 2\n")
    policy = PolicyFile(home, "anna")

    policy.replace("max_workers = 2\n", seen=policy.read().sha256)

    assert 2 == home.policy().max_workers
    assert Action.POLICY_CHANGED is list(read_records(home.audit_path))[-1].action


def test_a_restart_with_a_wrong_policy_leaves_the_agent_alone(home, monkeypatch):
    def stopped(_):
        raise AssertionError("it was stopped")

    monkeypatch.setattr("node.steward.agents.stop", stopped)
    home.settings_path.write_text("max_workers = 0\n")

    with pytest.raises(InvalidSettingsError):
        AgentControl(home, "anna").restart()


def test_the_person_who_starts_and_stops_an_agent_is_recorded(home):
    agent = AgentControl(home, "anna")
    assert "was not running" == agent.stop()
    agent.start()
    assert "stopped" == agent.stop()

    found = recorded(home, Action.AGENT_START_ASKED, Action.AGENT_STOP_ASKED, Action.AGENT_STOPPED)
    assert [
        ("person anna", Action.AGENT_START_ASKED),
        ("person anna", Action.AGENT_STOP_ASKED),
        ("north", Action.AGENT_STOPPED),
    ] == [one[:2] for one in found]
    assert (0, True) == (len(Tasks(home, "anna").open()), bool(agent.log_tail(1)))


def test_records_are_chosen_by_who_what_when_and_about_what(home, datasets, tmp_path):
    datasets.add(wish(tmp_path, "heart"))
    Datasets(home, "ben").add(wish(tmp_path, "lungs"))
    records = list(read_records(home.audit_path))

    def notes(**wanted):
        return [one.note for one in select(records, Selection(**wanted), most=10).records]

    assert ["lungs"] == notes(actor="BEN")
    assert ["heart", "lungs"] == notes(actions={Action.DATASET_REGISTERED}, outcome="done")
    assert ["heart"] == notes(about="hEAR")
    assert [] == notes(since=records[-1].at + 1) == notes(outcome="refused")
    assert ["lungs"] == notes(since=records[-1].at)
    page = select(records, Selection(), most=1, skipped=1)
    assert (("heart",), 3) == (tuple(one.note for one in page.records), page.count)
    assert () == select(records, Selection(), most=5, skipped=3).records
