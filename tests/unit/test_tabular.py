"""Tables are read as they are, refused for a stated reason, and split without leaking."""

import numpy as np
import polars as pl
import pytest

from common.datasets import TabularDataset, inspect_tabular
from common.datasets.split import test_part as chosen_for_test
from common.errors import (
    DataError,
    DataFileError,
    DataFileGoneError,
    MissingValuesError,
    NonNumericColumnError,
    UnknownColumnError,
)
from common.messages import Column

TABLE = "age;chol;sex;y;part\n50;1.5;1;0;train\n60;2.5;0;1;test\n70;?;1;1;train\n80;4.5;0;0;train\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "heart.csv"
    path.write_text(TABLE)
    return path


def bound(path, *columns, parameters=None, train=None, **options):
    dataset = TabularDataset(*columns, **options)
    dataset.bind(path, parameters or {})
    dataset.fit(np.arange(len(dataset)) if train is None else np.array(train))
    return dataset


def test_a_table_is_described_without_its_values(table):
    found = inspect_tabular(table)

    assert (found.rows, found.shape) == (4, (4, 5))
    assert found.columns == (
        Column(name="age", dtype="Int64"),
        Column(name="chol", dtype="Float64", missing=1),
        Column(name="sex", dtype="Int64"),
        Column(name="y", dtype="Int64"),
        Column(name="part", dtype="String"),
    )


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "?", "null"])
@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("CSV", ";"), ("tsv", "\t"), ("txt", "|")])
def test_delimiters_are_found_and_empty_cells_counted(tmp_path, suffix, delimiter, missing):
    path = tmp_path / f"data.{suffix}"
    lines = [["a b", '"c,;d"', "e"], ["1", missing, "x"], ["2.5", "4", "y"]]
    path.write_text("\ufeff" + "\r\n".join(delimiter.join(line) for line in lines), newline="")

    assert inspect_tabular(path).columns == (
        Column(name="a b", dtype="Float64"),
        Column(name="c,;d", dtype="Int64", missing=1),
        Column(name="e", dtype="String"),
    )


def test_parquet_is_described_alike(tmp_path):
    path = tmp_path / "data.parquet"
    pl.DataFrame({"a": [1, None], "b": [float("nan"), 1.0], "c": [True, False]}).write_parquet(path)

    found = inspect_tabular(path)

    assert [(column.name, column.dtype, column.missing) for column in found.columns] == [
        ("a", "Int64", 1),
        ("b", "Float64", 1),
        ("c", "Boolean", 0),
    ]
    assert bound(path, "c", "c").arrays()[0].tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "it is empty"),
        ("a.csv", b"\n\n", "it is empty"),
        ("a.csv", b"a,b\n", "it has no rows"),
        ("a.csv", b"a,b,a\n1,2,3\n", "column 'a' occurs twice"),
        ("a.csv", b",a\n0,1\n", "column 1 has no name"),
        ("a.csv", b"a," + b"b" * 201 + b"\n0,1\n", "column 2 has no name, or one of more than 200"),
        ("a.csv", b"\xff\xfe\x00", "it is not UTF-16"),
        ("a.csv", b"a,b\n1,2,3\n", None),
        ("a.csv", b"a,b\n1,\xff\xfe\n", None),
        ("a.parquet", b"nothing", None),
        ("a.parquet", b"", None),
        ("a.pq", b"PAR1" + bytes(40) + b"PAR1", None),
        ("a.xlsx", b"", "it is damaged, or no xlsx file"),
        ("a.xls", b"", "its name ends in none of .csv, .parquet"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_a_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataFileError, match=reason):
        inspect_tabular(path)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "folder.csv"])
def test_a_file_that_is_gone_is_told(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(DataFileGoneError, match="is gone"):
        inspect_tabular(tmp_path / name)
    with pytest.raises(DataFileGoneError):
        bound(tmp_path / name, "a", "b")


def test_a_star_in_a_name_is_no_pattern(tmp_path):
    (tmp_path / "a*.csv").write_text("x,y\n1,2\n")
    (tmp_path / "ab.csv").write_text("x,y\n3,4\n")

    assert inspect_tabular(tmp_path / "a*.csv").rows == 1


def test_columns_are_taken_by_name_or_position_in_the_order_given(table):
    data, target = bound(table, ["sex", 0], ["y"]).arrays()

    assert data.tolist() == [[1, 50], [0, 60], [1, 70], [0, 80]]
    assert (data.dtype, target.dtype, target.shape) == (np.float32, np.int64, (4, 1))


def test_one_target_by_name_makes_a_vector(table):
    assert bound(table, "sex", "y").arrays()[1].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("options", "target", "dtypes"),
    [
        ({}, "age", ("float32", "int64")),
        ({"dtype": "float64"}, "age", ("float64", "int64")),
        ({"target_dtype": "float32"}, "age", ("float32", "float32")),
        ({"missing": "drop"}, "chol", ("float32", "float32")),
        ({"missing": "drop"}, ["chol", "y"], ("float32", "float32")),
    ],
)
def test_dtypes_are_float32_and_whole_targets_int64_unless_asked(table, options, target, dtypes):
    arrays = bound(table, "sex", target, **options).arrays()

    assert tuple(array.dtype.name for array in arrays) == dtypes


@pytest.mark.parametrize("column", ["weight", 5, -1])
def test_an_unknown_column_is_named_with_those_that_exist(table, column):
    with pytest.raises(UnknownColumnError, match="there are age, chol, sex, y, part") as raised:
        bound(table, ["age", column], "y")

    assert raised.value.facts["column"] == column


def test_a_column_of_text_is_refused(table):
    with pytest.raises(NonNumericColumnError, match="column 'part' is of type String"):
        bound(table, ["age", "part"], "y")


def test_missing_values_are_refused_with_column_and_count(table):
    with pytest.raises(MissingValuesError) as raised:
        bound(table, ["age", "chol"], "y")

    assert raised.value.facts == {"column": "chol", "count": 1, "rows": 4}


def test_rows_with_missing_values_are_dropped_when_asked_and_keep_their_ids(table):
    dataset = bound(table, ["age", "chol"], "y", missing="drop")

    assert dataset.arrays()[0].tolist() == [[50, 1.5], [60, 2.5], [80, 4.5]]
    assert dataset.sample_ids().tolist() == [0, 1, 3]
    assert len(bound(table, "age", "y", missing="drop")) == 4


def test_missing_inputs_get_the_mean_of_the_training_part_alone(table):
    data, _ = bound(table, ["chol"], "y", missing="mean", train=[0, 2, 3]).arrays()

    assert data[:, 0].tolist() == [1.5, 2.5, 3.0, 4.5]


def test_a_mean_cannot_be_had_from_a_part_without_values_nor_for_targets(table):
    with pytest.raises(MissingValuesError, match="column 'chol' has 1"):
        bound(table, ["chol"], "y", missing="mean", train=[2])
    with pytest.raises(MissingValuesError, match="column 'chol' has 1"):
        bound(table, ["age"], "chol", missing="mean")


def test_standardising_uses_the_training_part_with_one_degree_of_freedom(table):
    train = [0, 2, 3]
    data, _ = bound(table, ["age", "sex"], "y", standardize=True, train=train).arrays()

    raw = np.array([[50, 1], [60, 0], [70, 1], [80, 0]], float)
    expected = (raw - raw[train].mean(axis=0)) / (raw[train].std(axis=0, ddof=1) + 1e-9)
    np.testing.assert_allclose(data, expected, rtol=1e-6)


def test_a_constant_column_and_a_single_row_standardise_to_zero(table):
    assert bound(table, ["age"], "y", standardize=True, train=[1]).arrays()[0][1] == 0.0


def test_fitting_again_forgets_the_training_part_before(table):
    dataset = bound(table, ["age"], "y", standardize=True, train=[0, 1])
    dataset.fit(np.arange(4))

    np.testing.assert_array_equal(
        dataset.arrays()[0], bound(table, ["age"], "y", standardize=True).arrays()[0]
    )


def test_transforms_are_applied_to_each_sample(table):
    dataset = bound(table, "age", "y", lambda row: row * 2, lambda target: -target)

    assert dataset.arrays() is None
    assert dataset[1] == (120, -1)


def test_a_split_column_says_which_rows_are_for_testing(table):
    dataset = bound(table, "age", "y", split_column="part")

    assert dataset.test_rows().tolist() == [1]
    assert bound(table, "age", "y", split_column=4).test_rows().tolist() == [1]
    assert bound(table, ["age", "chol"], "y", split_column="part", missing="drop").test_rows().tolist() == [1]
    assert bound(table, "age", "y").test_rows() is None


def test_the_split_column_that_the_node_registered_wins(table):
    dataset = bound(table, "age", "y", split_column="none", parameters={"split_column": "part"})

    assert dataset.test_rows().tolist() == [1]


def test_a_split_column_of_anything_else_is_refused(table):
    with pytest.raises(DataFileError, match="column 'sex' holds something else than train and test"):
        bound(table, "age", "y", split_column="sex")


def test_no_error_about_data_tells_a_value(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,y\n4711.25,1\nsecret,0\n")
    wrong = [("a", "y"), ("y", "z"), ("y", "a")]

    for columns in wrong:
        with pytest.raises(DataError) as raised:
            bound(path, *columns)
        assert not {"4711", "secret"} & set(raised.value.public_text.split())


def test_a_test_part_is_the_same_for_the_same_ids_and_seed_whatever_their_order():
    ids = np.arange(100)
    chosen = chosen_for_test(ids, 0.25, 7)
    backwards = chosen_for_test(ids[::-1], 0.25, 7)

    assert chosen.tolist()[:5] == [1, 4, 11, 13, 14]
    assert sorted(ids[::-1][backwards].tolist()) == chosen.tolist()
    assert len(chosen) == 25
    assert chosen.tolist() != chosen_for_test(ids, 0.25, 8).tolist()


@pytest.mark.parametrize(("ratio", "size"), [(0.0, 0), (0.04, 0), (0.3, 3), (1.0, 10)])
def test_a_test_part_has_its_share_of_the_samples(ratio, size):
    assert len(chosen_for_test(np.arange(10), ratio, 1)) == size
