"""The batches of a node are one stream that any process can take up at any place."""

from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data import DataManager
from common.errors import RoundFailedError
from common.messages import TrainRequest
from common.passes import Passes
from node.gpus import Choice
from node.worker.session import Session
from researcher import AsyncStrategy, Experiment, MinimumStrategy
from researcher.monitoring import UpdateArrived
from tests.support.experiments import Death, crash, dying, make
from tests.support.fake_node import Failure, Place, Silence, Update, always, at_rounds
from tests.support.tasks import Desk

SEED = 5


class Numbers:
    """Ten samples that are their own names, fetched one by one."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return np.float32(index), index


def stream(loader):
    """Return the batches of pass after pass, without end."""
    while True:
        yield from ([int(value) for value in data] for data, _ in loader)


def batches(count, *, first=0, dataset=None, **args):
    parts = DataManager(dataset or Numbers()).split(test_ratio=0, seed=1, loader_args=args)
    parts.passes.begin(SEED, first)
    return list(islice(stream(parts.train), count))


@given(
    samples=st.integers(1, 30),
    size=st.integers(1, 12),
    rounds=st.lists(st.integers(0, 15), max_size=6),
    drop_last=st.booleans(),
)
def test_rounds_one_after_the_other_are_one_stream(samples, size, rounds, drop_last):
    def take(first, count):
        passes = Passes(samples, min(size, samples), shuffle=True, drop_last=drop_last)
        passes.begin(SEED, first)
        endless = (batch.tolist() for _ in iter(int, 1) for batch in passes.take().split(min(size, samples)))
        return list(islice(endless, count))

    starts = [sum(rounds[:number]) for number in range(len(rounds))]

    assert take(0, sum(rounds)) == list(chain(*map(take, starts, rounds)))


@pytest.mark.parametrize(("drop_last", "lengths"), [(False, [4, 4, 2, 4, 4, 2]), (True, [4] * 6)])
def test_the_short_last_batch_is_kept_unless_it_is_dropped(drop_last, lengths):
    assert lengths == [len(batch) for batch in batches(6, batch_size=4, drop_last=drop_last)]
    assert lengths[2:] == [len(batch) for batch in batches(4, first=2, batch_size=4, drop_last=drop_last)]


def test_a_pass_takes_every_sample_once_wherever_it_was_cut():
    first, rest = batches(1, batch_size=4), batches(5, first=1, batch_size=4)

    assert sorted(chain(*first, *rest[:2])) == list(range(10))
    assert sorted(chain(*rest[2:])) == list(range(10))
    assert first + rest[:2] != rest[2:]


def test_without_shuffling_the_stream_goes_round_in_order():
    assert [[8, 9], [0, 1, 2, 3], [4, 5, 6, 7]] == batches(3, first=2, batch_size=4, shuffle=False)


def rows_of(desk, **task):
    """Return the first column of each batch of one task in a fresh worker."""
    session, order, rows = Session(), desk.task(**task), []
    session._forget_what_changed(order.run)
    plan = session._ready_plan(order, Choice("cpu"))
    step = plan.training_step

    def noted(data, target):
        rows.append(data[:, 0].tolist())
        return step(data, target)

    plan.training_step = noted
    session.run(order, lambda progress: None)
    return rows


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path, rows=20)
    made.write_model()
    return made


def test_a_task_goes_on_behind_the_updates_that_count(desk):
    whole = rows_of(desk, args={"num_updates": 7})

    first = rows_of(desk, args={"num_updates": 4}, round=1, seed=1)
    second = rows_of(desk, args={"num_updates": 3}, round=2, seed=2, updates_done=4)

    assert [8, 8, 4, 8, 8, 4, 8] == [len(rows) for rows in whole]
    assert whole == first + second


def test_a_warm_worker_takes_the_same_batches_as_a_fresh_one(desk):
    session = Session()
    session.run(desk.task(updates_done=11), lambda progress: None)

    warm = session.run(desk.task(updates_done=3), lambda progress: None)

    assert Session().run(desk.task(updates_done=3), lambda progress: None).update == warm.update


def test_epochs_are_whole_passes_whatever_was_done_before(desk):
    epochs = {"num_updates": None, "epochs": 1}

    assert rows_of(desk, args=epochs) == rows_of(desk, args=epochs, updates_done=2)
    assert rows_of(desk, args=epochs) != rows_of(desk, args=epochs, seed=12)


def done_before(node):
    return [
        (request.round, share.updates_done)
        for request in node.of(TrainRequest)
        for share in request.assignments
        if share.node == node.party
    ]


def test_a_node_is_told_how_many_of_its_updates_count(trial, federation):
    lost = Failure(code="WRN-505", text="gone", final=True)
    north, south = trial.start("north"), trial.start("south", at_rounds({2: lost}))
    experiment = make(
        federation,
        training_args={"num_updates": 3, "random_seed": 7},
        node_selection_strategy=MinimumStrategy(min_nodes=1, leave_out_rounds=0),
    )

    experiment.run(3)
    experiment.set_training_args({"epochs": 1})
    experiment.run(1)
    experiment.set_training_args({"epochs": None, "num_updates": 5, "dry_run": True})
    experiment.run(2)

    assert [(1, 0), (2, 3), (3, 6), (4, 9), (5, 9), (6, 10)] == done_before(north)
    assert [(1, 0), (2, 3), (3, 3), (4, 6), (5, 6), (6, 7)] == done_before(south)


def test_an_experiment_that_dies_inside_a_round_asks_again_for_the_same_batches(trial, tmp_path):
    north, south = trial.start("north"), trial.start("south", at_rounds({2: Silence(then=Update())}))
    federation = Place(trial, tmp_path / "home")
    experiment = make(federation, training_args={"num_updates": 4, "random_seed": 7})
    dying(experiment, UpdateArrived, count=3)

    with pytest.raises(Death):
        experiment.run(3)
    crash(federation)
    experiment._dossier.close()
    south.until(TrainRequest, 2)
    south.release()
    with (
        Place(trial, tmp_path / "home") as again,
        Experiment.resume(experiment.folder, federation=again, observers=()) as resumed,
    ):
        resumed.run(2)

    assert {(1, 0), (2, 4), (3, 8)} == set(done_before(north)) == set(done_before(south))
    assert 2 == done_before(south).count((2, 4))


def test_updates_of_a_failed_round_do_not_move_the_stream(trial, federation):
    lost = Failure(code="WRN-505", text="gone", final=True)
    north = trial.start("north")
    trial.start("south", at_rounds({2: lost}))
    experiment = make(federation, training_args={"num_updates": 3, "random_seed": 7})

    with pytest.raises(RoundFailedError):
        experiment.run(2)
    trial.nodes["south"].script = at_rounds({})
    experiment.run(1)

    assert [(1, 0), (2, 3), (2, 3)] == done_before(north)


def test_the_stream_of_an_asynchronous_node_goes_on_with_each_update_that_counts(trial, federation):
    fast, slow = trial.start("north"), trial.start("south", always(Silence()))
    experiment = make(
        federation,
        training_args={"num_updates": 3, "random_seed": 7},
        node_selection_strategy=AsyncStrategy(buffer=2),
    )

    experiment.run(2)

    assert [0, 3, 6, 9] == [done for _, done in done_before(fast)][:4]
    assert {0} == {done for _, done in done_before(slow)}
