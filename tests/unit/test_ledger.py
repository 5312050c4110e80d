"""The ledger forgets nothing, counts nothing twice, and never overwrites what it does not know."""

from __future__ import annotations

import sqlite3

import pytest

from common.errors import DatabaseVersionError, ForeignDatabaseError, NoSuchExperimentError
from common.ids import derived_uuid, task_id
from common.messages import LossPoint, PayloadManifest, TaskTimings, TrainReply, Validation
from researcher.history import RoundRecord
from researcher.ledger import FILE, Ledger
from researcher.round import RoundState
from researcher.rows import ExperimentRow, Outcome, TaskRow
from tests.support.fake_node import dataset

EXPERIMENT, RUN = derived_uuid("experiment"), derived_uuid("run")
ROW = ExperimentRow(
    id=EXPERIMENT,
    name="heart",
    created_at=5.0,
    config={"tags": ["heart"], "round_limit": 3},
    plan_name="Plan",
    plan_hash="b" * 64,
    plan_source="class Plan: ...\n",
)
BASE, MODEL = "0" * 64, "1" * 64
SENT = PayloadManifest(sha256="2" * 64, size_bytes=100, encoding="int8+zstd", decoded_bytes=200, inline=True)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.create(tmp_path)
    ledger.save(ROW)
    yield ledger
    ledger.close()


def task(node, attempt=1, round_=1):
    id_ = task_id(RUN, round_, node, attempt)
    return TaskRow(id_, RUN, round_, node, dataset(node).dataset_id, attempt)


def reply(node, digest="c" * 64, round_=1):
    return TrainReply(
        sender=node,
        recipients=("lab",),
        experiment_id=EXPERIMENT,
        run_id=RUN,
        task_id=task(node, round_=round_).id,
        round=round_,
        dataset_id=dataset(node).dataset_id,
        plan_hash="b" * 64,
        base=BASE,
        update=PayloadManifest(sha256=digest, size_bytes=100, inline=True),
        samples_seen=30,
        samples_train=20,
        samples_test=10,
        losses=(LossPoint(iteration=1, epoch=1, samples=30, loss=0.25),),
        validations=(Validation(on="global", samples=10, metrics={"ACCURACY": 0.5}),),
        timings=TaskTimings(received_at=1, waited_s=0, loaded_s=0, trained_s=2, validated_s=0, saved_s=0),
    )


def open_round(ledger, *nodes, round_=1):
    tasks = [task(node, round_=round_) for node in nodes]
    record = RoundRecord(
        round=round_,
        run=RUN,
        kind="train",
        state=RoundState.OPEN,
        base=BASE,
        sent=SENT,
        encoding="int8",
        reserve=(),
        aggregator={},
        agg_optimizer=None,
        strategy={},
        opened_at=10.0,
        members=len(nodes),
        deadline=None,
    )
    ledger.open_round(record, tasks)


def test_an_experiment_is_read_as_it_was_written(ledger, tmp_path):
    data = {"north": dataset("north")}
    changed = ExperimentRow(
        **{**{name: getattr(ROW, name) for name in ROW.__slots__}, "run": RUN, "training_data": data}
    )
    ledger.save(changed)
    ledger.close()

    again = Ledger.open(tmp_path)
    assert changed == again.experiment()
    again.close()


def test_an_update_is_accounted_for_once(ledger):
    open_round(ledger, "north")

    assert Outcome.ACCEPTED is ledger.add_update(reply("north"), Outcome.ACCEPTED, 11.0)
    assert ledger.add_update(reply("north"), Outcome.LATE, 12.0) is None
    assert 1 == len(ledger.counted(RUN, 1))


def test_a_second_update_of_the_same_task_is_quarantined(ledger):
    open_round(ledger, "north")
    ledger.add_update(reply("north"), Outcome.ACCEPTED, 11.0)

    other = ledger.add_update(reply("north", digest="d" * 64), Outcome.ACCEPTED, 12.0)

    assert Outcome.QUARANTINED is other
    assert ["c" * 64] == [one.update.sha256 for one in ledger.counted(RUN, 1)]


def test_updates_are_returned_in_node_order_whatever_the_order_of_arrival(ledger):
    open_round(ledger, "east", "north", "south")
    for node in ("south", "east", "north"):
        ledger.add_update(reply(node), Outcome.ACCEPTED, 11.0)

    assert ["east", "north", "south"] == [one.node for one in ledger.counted(RUN, 1)]


def test_a_node_builds_on_its_last_task_that_counts(ledger):
    assert {} == ledger.last_counted()
    open_round(ledger, "east", "north")
    ledger.add_update(reply("east"), Outcome.ACCEPTED, 11.0)
    ledger.add_update(reply("north"), Outcome.LATE, 11.0)
    assert {"east": task("east").id} == ledger.last_counted()
    ledger.end_round(RUN, 1, RoundState.CLOSED, 12.0, model=MODEL)

    open_round(ledger, "east", "north", round_=2)
    ledger.add_update(reply("east", round_=2), Outcome.REFUSED, 13.0)
    ledger.add_update(reply("north", round_=2), Outcome.ACCEPTED, 13.0)
    ledger.end_round(RUN, 2, RoundState.CLOSED, 14.0, model=MODEL)
    expected = {"east": task("east").id, "north": task("north", round_=2).id}
    assert expected == ledger.last_counted()

    open_round(ledger, "east", "north", round_=3)
    ledger.add_update(reply("north", round_=3), Outcome.ACCEPTED, 15.0)
    ledger.end_round(RUN, 3, RoundState.CANCELLED, 16.0)
    assert expected == ledger.last_counted()


def test_a_task_is_settled_once(ledger):
    open_round(ledger, "north")
    ledger.settle_task(task("north").id, "failed", 11.0, reason="died", code="WRN-601", final=True)
    ledger.settle_task(task("north").id, "accepted", 12.0)

    assert "failed" == ledger.task(task("north").id).state


def test_what_was_settled_comes_back_in_its_order(ledger):
    open_round(ledger, "east", "north", "south")
    ledger.settle_task(task("south").id, "accepted", 11.0)
    ledger.settle_task(task("east").id, "failed", 12.0, reason="died", final=False)
    ledger.add_task(task("east", attempt=2))

    read = [(one.node, one.attempt, one.state) for one in ledger.tasks(RUN, 1)]
    assert [
        ("south", 1, "accepted"),
        ("east", 1, "failed"),
        ("north", 1, "sent"),
        ("east", 2, "sent"),
    ] == read


def test_ending_a_round_cancels_what_is_still_out(ledger):
    open_round(ledger, "east", "north")
    ledger.settle_task(task("east").id, "accepted", 11.0)
    ledger.end_round(RUN, 1, RoundState.CLOSED, 12.0, model=MODEL, timings={"aggregate_s": 0.5})

    (record,) = ledger.rounds()
    assert (RoundState.CLOSED, MODEL, 2.0, 0.5) == (
        record.state,
        record.model,
        record.duration_s,
        record.timings["aggregate_s"],
    )
    assert {"east": "accepted", "north": "cancelled"} == {
        node: one.outcome for node, one in record.nodes.items()
    }
    assert [] == ledger.open_rounds()
    assert (1, MODEL) == ledger.last_model()


def test_a_round_that_failed_makes_no_model(ledger):
    open_round(ledger, "east")
    ledger.end_round(RUN, 1, RoundState.FAILED, 12.0, reason="east: died")

    assert ledger.last_model() is None
    assert "east: died" == ledger.rounds()[0].reason


def test_the_history_tells_what_nodes_told(ledger):
    open_round(ledger, "north")
    ledger.add_update(reply("north"), Outcome.ACCEPTED, 10.5)

    node = ledger.rounds(RUN, 1)[0].nodes["north"]

    assert (0.25, 30, 20, 10, 0.5) == (
        node.loss,
        node.samples_seen,
        node.samples_train,
        node.samples_test,
        node.answered_s,
    )
    assert {"global_ACCURACY": 0.5} == node.metrics
    assert 2 == node.timings.trained_s


def test_a_block_is_written_whole_or_not_at_all(ledger):
    open_round(ledger, "north")

    def half() -> None:
        with ledger.together():
            ledger.add_update(reply("north"), Outcome.ACCEPTED, 11.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert [] == ledger.counted(RUN, 1)


def test_every_commit_is_synchronised(ledger):
    assert [2] == [row[0] for row in ledger._connection.execute("PRAGMA synchronous")]
    assert ["wal"] == [row[0] for row in ledger._connection.execute("PRAGMA journal_mode")]


def test_a_folder_without_an_experiment_says_so(tmp_path):
    with pytest.raises(NoSuchExperimentError):
        Ledger.open(tmp_path)


def test_a_foreign_file_is_refused_and_left_alone(tmp_path):
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE cats (name TEXT)")
    connection.commit()
    connection.close()
    before = (tmp_path / FILE).read_bytes()

    with pytest.raises(ForeignDatabaseError):
        Ledger.open(tmp_path)
    assert before == (tmp_path / FILE).read_bytes()


def test_a_damaged_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / FILE).write_bytes(b"not a database" * 100)

    with pytest.raises(ForeignDatabaseError):
        Ledger.open(tmp_path)
    assert (tmp_path / FILE).read_bytes().startswith(b"not a database")


def test_a_newer_ledger_is_refused(ledger, tmp_path):
    ledger._connection.execute("PRAGMA user_version = 99")
    ledger.close()

    with pytest.raises(DatabaseVersionError, match="schema 99"):
        Ledger.open(tmp_path)
