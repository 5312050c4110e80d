"""A table is read as its hospital wrote it, and becomes the same inputs at every node."""

import sys
import zipfile

import numpy as np
import openpyxl
import polars as pl
import pytest

from common.datasets import TabularDataset
from common.datasets.families.base import parsed
from common.datasets.families.tabular import FAMILY
from common.datasets.inspection import read_columns
from common.errors import (
    DataFileError,
    InvalidDatasetError,
    MissingExtraError,
    MissingValuesError,
    NonNumericColumnError,
    UnknownCategoryError,
    UnknownColumnError,
)

PATIENTS = "id,age,sex,chol,y\np1,50,F,,no\np2,60,M,2,yes\np3,,M,4,yes\np4,90,,9,no\n"


def inspected(path, **options):
    return FAMILY.inspect(path, parsed(FAMILY.options, options))


def bound(path, *columns, parameters=None, train=None, **options):
    dataset = TabularDataset(*columns, **options)
    dataset.bind(path, parameters or {})
    dataset.fit(np.arange(len(dataset)) if train is None else np.array(train))
    return dataset


@pytest.fixture
def patients(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text(PATIENTS)
    return path


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("größe;y\n1;2\n".encode(), {}),
        ("größe;y\n1;2\n".encode("utf-16"), {}),
        ("größe;y\n1;2\n".encode("cp1252"), {"encoding": "cp1252"}),
        ("größe:y\n1:2\n".encode(), {"delimiter": ":"}),
    ],
)
def test_encoding_and_delimiter_are_found_or_told(tmp_path, content, options):
    path = tmp_path / "a.csv"
    path.write_bytes(content)

    assert ["größe", "y"] == [column.name for column in inspected(path, **options).columns]
    assert [[1.0]] == bound(path, "größe", "y", parameters=options).arrays()[0].tolist()


def test_a_file_of_another_encoding_is_refused_with_the_option_that_helps(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("größe,y\n1,2\n".encode("cp1252"))

    with pytest.raises(DataFileError, match=r"it is not UTF-8 \(option encoding\)"):
        inspected(path)


@pytest.mark.parametrize("name", ["klingon", "zlib", "hex", "rot13", "utf\08"])
def test_an_encoding_that_is_none_of_text_is_refused(name, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x,y\n1,2\n")

    with pytest.raises(DataFileError, match="there is no encoding"):
        inspected(path, encoding=name)


def test_a_file_without_a_header_is_read_by_position(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2\n3,4\n")

    found = inspected(path, header=False)

    assert ["column_0", "column_1"] == [column.name for column in found.columns]
    assert [2, 4] == bound(path, 0, 1, parameters={"header": False}).arrays()[1].tolist()


def test_numbers_may_have_a_decimal_comma_where_cells_are_separated_otherwise(tmp_path, patients):
    path = tmp_path / "comma.csv"
    path.write_text("x;y\n1,5;0\n-2,25;1\n")

    dataset = bound(path, "x", "y", parameters={"decimal_comma": True})

    assert [[1.5], [-2.25]] == dataset.arrays()[0].tolist()
    with pytest.raises(NonNumericColumnError):
        bound(path, "x", "y")
    with pytest.raises(DataFileError, match="a comma cannot stand between cells and in numbers"):
        inspected(patients, decimal_comma=True)


def test_a_first_line_of_numbers_is_no_header_unless_somebody_says_so(tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("2020,2021\n3,4\n5,6\n")

    assert [(3, ["column_0", "column_1"])] * 2 == [
        (found.samples, [column.name for column in found.columns])
        for found in (inspected(path), inspected(path, header=False))
    ]
    with pytest.raises(DataFileError, match="its first line holds numbers"):
        inspected(path, header=True)


def test_categories_are_told_only_of_columns_that_people_name(patients):
    found = {
        column.name: column.categories for column in inspected(patients, tell_categories=["sex"]).columns
    }

    assert {"id": (), "age": (), "sex": ("F", "M"), "chol": (), "y": ()} == found


def test_a_column_of_too_many_values_is_none_of_categories(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text("\n".join(["zip,y", *(f"z{row},1" for row in range(101))]) + "\n")

    with pytest.raises(DataFileError, match="column 'zip' holds 101 different values, and at most 100"):
        inspected(path, tell_categories=["zip"])
    with pytest.raises(UnknownColumnError, match="no column 'sex'"):
        inspected(path, tell_categories=["sex"])


@pytest.mark.parametrize("word", ["NA", "nan", "NaN", "?", ""])
@pytest.mark.parametrize("row", [1, 1500])
@pytest.mark.parametrize(("ending", "kind"), [("", pl.Int64), (".5", pl.Float64)])
def test_words_for_missing_values_mean_the_same_wherever_they_stand(tmp_path, word, row, ending, kind):
    values = [f"{number}{ending}" for number in range(2000)]
    values[row] = word
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join(["x,y", *(f"{value},1" for value in values)]) + "\n")

    found = read_columns(path, ["x", "y"])

    assert [kind, pl.Int64] == found.dtypes
    assert [row] == found["x"].is_null().arg_true().to_list()


def test_an_unknown_or_wrong_option_is_named(patients):
    with pytest.raises(
        InvalidDatasetError, match=r"(?s)header: Input should be a valid boolean.*colour: Extra"
    ):
        inspected(patients, colour="red", header="maybe")
    with pytest.raises(UnknownColumnError, match="no column 'weight'"):
        inspected(patients, units={"weight": "kg"})


def test_units_and_types_are_as_the_hospital_says(patients):
    found = inspected(patients, units={"age": "years"}, dtypes={"chol": "String"})

    assert {"age": ("Int64", "years"), "chol": ("String", "")} == {
        column.name: (column.dtype, column.unit) for column in found.columns if column.name in ("age", "chol")
    }


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [("1", "2.5", 2.5), ("", "2.5", 2.5), ("true", "7", None), ("1", "word", None), ("1", "4", 4.0)],
)
def test_types_are_those_of_all_rows_whatever_the_first_ones_look_like(tmp_path, first, last, expected):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + f"{first},1\n" * 1500 + f"{last},1\n")

    if expected is None:
        with pytest.raises(NonNumericColumnError):
            bound(path, "a", "b")
    else:
        assert expected == bound(path, "a", "b", missing=0).arrays()[0][-1, 0]


def test_excel_is_read_like_a_csv_of_its_sheet(tmp_path):
    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["note"])
    sheet = book.create_sheet("patients")
    for row in (["age", "chol", "ill"], [50, 1.5, True], [None, None, None], [60, "NA", False]):
        sheet.append(row)
    book.save(path)

    found = inspected(path, sheet="patients")

    assert (2, 3) == found.shape
    assert [("age", "Int64", 0), ("chol", "Float64", 1), ("ill", "Boolean", 0)] == [
        (column.name, column.dtype, column.missing) for column in found.columns
    ]
    assert [[50.0], [60.0]] == bound(path, "age", "ill", parameters={"sheet": "patients"}).arrays()[
        0
    ].tolist()
    with pytest.raises(DataFileError, match="there is no sheet 'none' among Sheet, patients"):
        inspected(path, sheet="none")


def test_an_archive_that_unpacks_to_more_than_fits_is_refused(tmp_path):
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"")
        archive.filelist[0].file_size = 2**31  # what it claims is what counts

    with pytest.raises(DataFileError, match="it unpacks to 2147483648 bytes"):
        inspected(path)


def test_a_missing_package_gives_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"")

    with pytest.raises(MissingExtraError) as caught:
        inspected(tmp_path / "a.xlsx")

    assert 'install it: pip install "warren-fl[excel]"' == caught.value.advice


UNEVEN = "a,b\n1,2\n3\n5,6\n7,8,9\n"


def test_short_and_long_rows_are_refused_with_their_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(UNEVEN)

    with pytest.raises(DataFileError, match="2 rows do not fit, the first is row 1: it has 1 cells"):
        inspected(path)


def test_short_and_long_rows_are_left_out_and_counted_where_the_rule_says_so(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(UNEVEN)

    found = inspected(path, on_broken="skip")
    parameters = {"on_broken": "skip", "broken": list(found.broken)}

    assert (2, ["1", "3"]) == (found.samples, list(found.broken))
    assert [[1.0], [5.0]] == bound(path, "a", "b", parameters=parameters).arrays()[0].tolist()


def test_rows_that_must_not_be_used_are_left_out_by_position_or_id(patients):
    by_id = {"id_column": "id", "leave_out": ["p2", "p9"]}

    assert (3, 1) == ((found := inspected(patients, **by_id)).samples, found.left_out)
    assert 3 == len(
        bound(patients, "chol", "y", parameters=by_id, missing=0, categories={"y": ["no", "yes"]})
    )
    assert [1, 2, 3] == bound(patients, "chol", "chol", parameters={"leave_out": ["0"]}).sample_ids().tolist()


def test_ids_of_a_column_do_not_depend_on_the_other_rows(tmp_path, patients):
    shorter = tmp_path / "shorter.csv"
    shorter.write_text("id,chol\np4,9\np2,2\n")
    options = {"parameters": {"id_column": "id"}, "missing": 0}

    whole = bound(patients, "chol", "id", categories={"id": ["p1", "p2", "p3", "p4"]}, **options).sample_ids()
    part = bound(shorter, "chol", "id", categories={"id": ["p2", "p4"]}, **options).sample_ids()

    assert [whole[3], whole[1]] == part.tolist()
    with pytest.raises(MissingValuesError, match="column 'sex' has 1 missing values of 4"):
        inspected(patients, id_column="sex")


def test_all_rows_of_a_person_are_left_out_and_have_one_id(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text("id,x\np1,1\np2,2\np1,3\np2\n")
    options = {"id_column": "id", "leave_out": ["p2"], "on_broken": "skip"}

    found = inspected(path, **options)
    dataset = bound(path, "x", "x", parameters=options | {"broken": list(found.broken)})

    assert (2, 1, ["3"]) == (found.samples, found.left_out, list(found.broken))
    assert ([1, 3], 1) == (dataset.arrays()[1].tolist(), len(set(dataset.sample_ids().tolist())))


def test_categories_make_the_same_inputs_at_every_node(patients):
    categories = {"sex": ["F", "M", "X"], "y": ["no", "yes"]}

    dataset = bound(patients, ["sex"], "y", categories=categories, missing={"sex": "indicator"})

    assert ["sex=F", "sex=M", "sex=X", "sex is missing"] == dataset.features
    assert [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]] == dataset.arrays()[0].tolist()
    assert [0, 1, 1, 0] == dataset.arrays()[1].tolist()


def test_a_category_that_the_plan_does_not_name_is_counted_and_not_told(patients):
    with pytest.raises(UnknownCategoryError) as caught:
        bound(patients, "sex", "y", categories={"sex": ["F"], "y": ["no", "yes"]}, missing=0)

    assert "2 samples of 'sex' are none of the categories that the plan names: F" == caught.value.public_text


def test_text_without_categories_is_refused(patients):
    with pytest.raises(NonNumericColumnError):
        bound(patients, "chol", "sex", missing="drop")


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("mean", [3.0, 2.0, 4.0, 9.0]),
        ("median", [3.0, 2.0, 4.0, 9.0]),
        (-1, [-1.0, 2.0, 4.0, 9.0]),
        ({"chol": 7.5}, [7.5, 2.0, 4.0, 9.0]),
    ],
)
def test_gaps_are_filled_as_told_from_the_training_part(patients, missing, expected):
    found = bound(patients, "chol", "y", categories={"y": ["no", "yes"]}, missing=missing, train=[0, 1, 2])

    assert expected == found.arrays()[0][:, 0].tolist()


def test_the_median_is_that_of_the_training_part(patients):
    found = bound(patients, "chol", "y", categories={"y": ["no", "yes"]}, missing="median")

    assert 4.0 == found.arrays()[0][0, 0]


def test_an_indicator_says_where_the_mean_was_put(patients):
    found = bound(
        patients,
        ["chol", "age"],
        "y",
        categories={"y": ["no", "yes"]},
        missing={"chol": "indicator", "age": "median"},
        train=[1, 2],
    )

    assert ["chol", "age", "chol is missing"] == found.features
    assert [[3, 50, 1], [2, 60, 0], [4, 60, 0], [9, 90, 0]] == found.arrays()[0].tolist()


def test_columns_without_a_rule_refuse_and_those_with_drop_drop(patients):
    with pytest.raises(MissingValuesError, match="column 'age' has 1"):
        bound(patients, ["chol", "age"], "y", categories={"y": ["no", "yes"]}, missing={"chol": 0})
    dropped = bound(
        patients, ["chol", "age"], "y", categories={"y": ["no", "yes"]}, missing={"chol": 0, "age": "drop"}
    )
    assert [0, 1, 3] == dropped.sample_ids().tolist()


def test_moments_that_the_plan_gives_are_used_and_others_stay(patients):
    found = bound(
        patients,
        ["chol", "age"],
        "y",
        categories={"y": ["no", "yes"]},
        missing=0,
        standardize={"age": (50.0, 10.0)},
    )

    np.testing.assert_allclose([[0, 0], [2, 1], [4, -5], [9, 4]], found.arrays()[0], rtol=1e-6)


def test_the_first_rows_can_be_looked_at(patients):
    assert {"id": "p1", "age": 50, "sex": "F", "chol": None, "y": "no"} == FAMILY.preview(
        patients, parsed(FAMILY.options, {}), 1
    )[0]
