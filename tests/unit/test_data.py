"""Batches hold every sample once a pass, in an order that a seed repeats."""

from itertools import chain

import numpy as np
import pytest
import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import InvalidArgumentsError, MissingValuesError
from tests.support.plans import COLUMNS, write_table


class Squares:
    """A map-style data set that is not one of ours."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return np.float32(index), index * index


def table(tmp_path, **options):
    """Return a manager of ten rows whose input is the row number."""
    path = tmp_path / "numbers.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i * i}\n" for i in range(10)))
    manager = DataManager(TabularDataset(0, "y", **options))
    manager.bind(path, {})
    return manager


def in_memory(tmp_path):
    return table(tmp_path)


def one_by_one(tmp_path):
    return table(tmp_path, transform=lambda row: row)


def foreign(tmp_path):
    return DataManager(Squares())


KINDS = pytest.mark.parametrize("make", [in_memory, one_by_one, foreign])


def numbers(loader):
    return [data.flatten().int().tolist() for data, _ in loader]


@KINDS
def test_a_pass_takes_every_sample_once(make, tmp_path):
    parts = make(tmp_path).split(test_ratio=0.2, seed=1, loader_args={"batch_size": 3})

    train, test = numbers(parts.train), numbers(parts.test)

    assert [len(batch) for batch in train] == [3, 3, 2]
    assert [len(batch) for batch in test] == [2]
    assert (len(parts.train), parts.train.samples, len(parts.test), parts.test.samples) == (3, 8, 1, 2)
    assert sorted(chain(*train, *test)) == list(range(10))
    for data, target in parts.train:
        assert target.tolist() == data.flatten().square().int().tolist()


@KINDS
def test_the_order_changes_with_each_pass_and_is_repeated_by_the_seed(make, tmp_path):
    parts = make(tmp_path).split(test_ratio=0.0, seed=1, loader_args={"batch_size": 5})

    orders = []
    for _ in range(2):
        parts.passes.begin(3)
        orders.append([numbers(parts.train), numbers(parts.train)])

    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]


@KINDS
def test_arguments_of_the_loader_are_kept(make, tmp_path):
    manager = make(tmp_path)

    def lengths(**args):
        parts = manager.split(test_ratio=0.0, seed=1, loader_args=args)
        return [len(batch) for batch in numbers(parts.train)]

    assert lengths(batch_size=4, drop_last=True) == [4, 4]
    assert lengths(batch_size=20, drop_last=True) == []
    assert lengths(batch_size=None) == [10]
    assert lengths(batch_size=20) == lengths() == [10]
    plain = manager.split(test_ratio=0.0, seed=1, loader_args={"batch_size": 6, "shuffle": False})
    assert numbers(plain.train) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]


@KINDS
def test_the_test_part_is_in_order_and_in_batches_of_its_own(make, tmp_path):
    parts = make(tmp_path).split(
        test_ratio=1.0, seed=1, loader_args={"batch_size": 2, "drop_last": True}, test_batch_size=4
    )

    assert numbers(parts.test) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (len(parts.train), numbers(parts.train)) == (0, [])


@KINDS
def test_iterating_draws_nothing_from_the_global_generator(make, tmp_path):
    parts = make(tmp_path).split(test_ratio=0.3, seed=1, loader_args={"batch_size": 2})
    state = torch.get_rng_state()

    numbers(parts.train)
    numbers(parts.test)

    assert torch.equal(torch.get_rng_state(), state)


def test_arguments_of_the_round_win_over_those_of_the_plan():
    parts = DataManager(Squares(), batch_size=3, shuffle=False).split(
        test_ratio=0.0, seed=1, loader_args={"batch_size": 5}
    )

    assert numbers(parts.train) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_the_default_batch_has_48_samples(tmp_path):
    manager = DataManager(TabularDataset(COLUMNS, "y"))
    manager.bind(write_table(tmp_path / "t.csv", rows=50), {})

    assert [len(batch) for _, batch in manager.split(test_ratio=0, seed=0).train] == [48, 2]


def test_wrong_arguments_are_all_named():
    manager = DataManager(Squares(), batch_size=0, workers=2)

    with pytest.raises(InvalidArgumentsError, match=r"(?s)workers: unknown.*batch_size: .*shuffle: must be"):
        manager.split(test_ratio=0.0, seed=1, loader_args={"shuffle": "yes"})


def test_a_split_column_wins_over_the_ratio(tmp_path):
    manager = DataManager(TabularDataset(COLUMNS, "y", split_column="split"))
    manager.bind(write_table(tmp_path / "t.csv", rows=40), {})

    parts = manager.split(test_ratio=0.5, seed=1)

    assert (parts.train.samples, parts.test.samples) == (30, 10)


def test_means_come_from_the_training_part_of_the_split(tmp_path):
    manager = DataManager(TabularDataset(COLUMNS, "y", standardize=True), batch_size=None)
    manager.bind(write_table(tmp_path / "t.csv"), {})

    parts = manager.split(test_ratio=0.5, seed=1)
    ((data, _),) = parts.train
    ((held_back, _),) = parts.test

    torch.testing.assert_close(data.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.std(dim=0), torch.ones(3), atol=1e-6, rtol=0)
    assert held_back.mean(dim=0).abs().max() > 0.01


def test_folds_never_take_what_the_file_marks_for_testing(tmp_path):
    path = tmp_path / "marked.csv"
    path.write_text("x,y,part\n" + "".join(f"{i},{i},{'test' if i < 3 else 'train'}\n" for i in range(10)))
    seen = []
    for fold in range(3):
        manager = DataManager(TabularDataset("x", "y", split_column="part"))
        manager.bind(path, {})
        parts = manager.split(test_ratio=0.0, seed=1, fold=(fold, 3))
        train, test = (set(chain(*numbers(one))) for one in (parts.train, parts.test))
        assert train | test == set(range(3, 10))
        assert not train & test
        seen += test

    assert list(range(3, 10)) == sorted(seen)


def persons(tmp_path, rows):
    """Return input values of the training and the test part of rows of (person, value)."""
    path = tmp_path / "persons.csv"
    path.write_text("person,x,y\n" + "".join(f"{person},{x},0\n" for person, x in rows))
    manager = DataManager(TabularDataset("x", "y", id_column="person"))
    manager.bind(path, {})
    parts = manager.split(test_ratio=0.3, seed=5)
    return [set(chain(*numbers(one))) for one in (parts.train, parts.test)]


def test_a_person_stays_in_its_part_when_rows_are_added_and_put_into_another_order(tmp_path):
    rows = [(f"{number:03}", number) for number in range(100)]
    train, test = persons(tmp_path, rows)
    more = [("A7", 500), *rows[::-1], *((f"{number:04}", number) for number in range(100, 300))]
    later_train, later_test = persons(tmp_path, more)

    assert 20 < len(test) < 40
    assert train <= later_train
    assert test <= later_test


def test_all_rows_of_a_person_are_in_one_part(tmp_path):
    train, test = persons(tmp_path, [(number % 20, number) for number in range(200)])

    assert not {number % 20 for number in train} & {number % 20 for number in test}
    assert train
    assert test


def test_folds_keep_persons_together_and_take_each_once(tmp_path):
    path = tmp_path / "persons.csv"
    path.write_text("person,x,y\n" + "".join(f"{number % 15},{number},0\n" for number in range(90)))
    seen = []
    for fold in range(3):
        manager = DataManager(TabularDataset("x", "y", id_column="person"))
        manager.bind(path, {})
        test = set(chain(*numbers(manager.split(test_ratio=0.0, seed=1, fold=(fold, 3)).test)))
        assert not {number % 15 for number in test} & {number % 15 for number in seen}
        seen += test

    assert list(range(90)) == sorted(seen)


def test_a_row_that_is_nobodys_is_refused(tmp_path):
    with pytest.raises(MissingValuesError, match="person"):
        persons(tmp_path, [("a", 1), ("", 2)])


def test_a_test_set_of_its_own_is_taken_whole_and_standardized_like_the_training_part(tmp_path):
    managers = []
    for name, values in (("train", (0, 2, 4)), ("test", (2, 10))):
        path = tmp_path / f"{name}.csv"
        path.write_text("x,y\n" + "".join(f"{value},0\n" for value in values))
        managers.append(DataManager(TabularDataset("x", "y", standardize=True)))
        managers[-1].bind(path, {})
    parts = managers[0].split(test_ratio=0.0, seed=1, test_set=managers[1])

    assert (3, 2) == (parts.train.samples, parts.test.samples)
    assert [pytest.approx(0.0), pytest.approx(4.0)] == [
        value for data, _ in parts.test for value in data.flatten().tolist()
    ]
