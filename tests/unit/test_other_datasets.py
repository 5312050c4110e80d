"""Survival times, texts and a plan's own reading of files."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer

from common.data import DataManager
from common.datasets import CustomDataset, SurvivalDataset, TextDataset
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.errors import (
    DataFileError,
    InvalidArgumentsError,
    InvalidDatasetError,
    MissingValuesError,
    NonNumericColumnError,
    UnknownCategoryError,
    UnknownColumnError,
)


def written(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


# Survival

PATIENTS = "age,days,dead\n50,10,1\n60,20.5,0\n"


def test_a_survival_target_is_a_time_and_an_event(tmp_path):
    manager = DataManager(SurvivalDataset("age", "days", "dead", standardize=True))
    manager.bind(written(tmp_path, PATIENTS), {}, data_type="tabular")

    ((data, target),) = list(manager.split(test_ratio=0, seed=1, loader_args={"shuffle": False}).train)

    assert [[10.0, 1.0], [20.5, 0.0]] == target.tolist()
    assert ("torch.float32", (2, 1)) == (str(target.dtype), tuple(data.shape))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("70,-1,0", "1 times are negative or not finite"),
        ("70,inf,0", "1 times are negative or not finite"),
        ("70,1,2", "1 events are neither 0 nor 1"),
    ],
)
def test_impossible_times_and_events_are_counted(tmp_path, row, reason):
    with pytest.raises(DataFileError, match=reason):
        SurvivalDataset("age", "days", "dead").bind(written(tmp_path, f"{PATIENTS}{row}\n"), {})


@pytest.mark.parametrize("options", [{"target_dtype": "int64"}, {"categories": {"dead": ["no", "yes"]}}])
def test_what_a_survival_target_is_cannot_be_changed(options):
    with pytest.raises(InvalidArgumentsError):
        SurvivalDataset("age", "days", "dead", **options)


# Text

LETTERS = "id,note,grade\na,cab,low\nb,,low\nc,ab,high\n"


def letters(text):
    return [ord(letter) - 96 for letter in text]


def bound(path, *args, parameters=None, **options):
    dataset = TextDataset(*args, letters, **options)
    dataset.bind(path, parameters or {})
    return dataset


def test_texts_become_tokens_of_one_length(tmp_path):
    path = written(tmp_path, LETTERS)
    dataset = bound(path, "note", "grade", length=2, padding=9, categories=["low", "high"])
    longer = bound(
        path, "note", "grade", length=4, categories=["low", "high"], parameters={"id_column": "id"}
    )

    assert [([3, 1], 0), ([1, 2], 1)] == [
        (tokens.tolist(), target) for tokens, target in map(dataset.__getitem__, (0, 1))
    ]
    assert [1, 2, 0, 0] == longer[1][0].tolist()
    assert [0, 2] == dataset.sample_ids().tolist()
    assert dataset.sample_ids().tolist() != longer.sample_ids().tolist()
    assert 1 == len(
        bound(path, "note", "grade", length=2, categories=["low", "high"], parameters={"leave_out": ["2"]})
    )


def test_targets_of_texts_are_numbers_or_categories(tmp_path):
    path = written(tmp_path, "note,y,score,gap\nab,1,1.5,\n")

    assert (1, np.int64) == ((found := bound(path, "note", "y", length=2)[0][1]), found.dtype)
    assert (1.5, np.float32) == ((found := bound(path, "note", "score", length=2)[0][1]), found.dtype)
    for error, column, options in (
        (NonNumericColumnError, "note", {}),
        (UnknownColumnError, "none", {}),
        (UnknownCategoryError, "y", {"categories": ["0"]}),
        (MissingValuesError, "gap", {}),
    ):
        with pytest.raises(error):
            bound(path, "note", column, length=2, **options)


def test_a_vectoriser_makes_rows_for_plans_of_scikit_learn(tmp_path):
    words = HashingVectorizer(n_features=8, alternate_sign=False, norm=None)
    dataset = TextDataset("note", "y", vectorizer=words.transform)
    dataset.bind(written(tmp_path, "note,y\nab ab cd,1\nef,0\n"), {})

    assert [3.0, 1.0] == [float(dataset[row][0].sum()) for row in (0, 1)]
    assert ((8,), np.float32) == (dataset[0][0].shape, dataset[0][0].dtype)


@pytest.mark.parametrize(
    "options",
    [{}, {"tokenizer": letters}, {"length": 2}, {"tokenizer": letters, "length": 2, "vectorizer": letters}],
)
def test_a_text_needs_one_way_to_become_numbers(options):
    with pytest.raises(InvalidArgumentsError, match="give a tokenizer and a length, or a vectorizer alone"):
        TextDataset("note", "y", **options)


# Custom


class Lines(CustomDataset):
    """Each line of each file is a sample."""

    def read(self):
        self.lines = [
            float(line) for file in sorted(self.path.iterdir()) for line in file.read_text().split()
        ]

    def get_item(self, index):
        return np.float32([self.lines[index]]), self.parameters["offset"] + index

    def __len__(self):
        return len(self.lines)


def test_a_plan_reads_files_in_its_own_way(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("1\n2\n")
    manager = DataManager(Lines(), batch_size=None, shuffle=False)
    manager.bind(tmp_path, {"offset": 5}, data_type="custom")

    ((data, target),) = list(manager.split(test_ratio=0, seed=1).train)

    assert ([1, 2, 1, 2], [5, 6, 7, 8]) == (data.flatten().tolist(), target.tolist())


def test_a_custom_set_counts_its_files_or_what_people_say(tmp_path):
    kind = family("custom")
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("22")

    counts = [
        kind.inspect(path, parsed(kind.options, options)).samples
        for path, options in [(tmp_path, {"offset": 5}), (tmp_path / "a", {"samples": 7})]
    ]

    assert [2, 7] == counts
    assert [{"file": "a", "bytes": 1}, {"file": "b", "bytes": 2}] == kind.preview(
        tmp_path, parsed(kind.options, {}), 5
    )
    with pytest.raises(InvalidDatasetError, match="how many samples"):
        kind.inspect(tmp_path / "a", parsed(kind.options, {}))
