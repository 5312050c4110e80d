"""What differs between the data of several nodes is told before anything is trained."""

import pytest

from common.errors import InvalidSettingsError
from common.ids import DatasetId, PartyId, new_uuid
from common.messages import Column, DatasetDescription
from researcher.training_data import TrainingData


def described(*columns, data_type="tabular", shape=(10, 2), classes=(), left_out=0):
    return DatasetDescription(
        dataset_id=DatasetId(new_uuid()),
        name="heart",
        data_type=data_type,
        tags=("heart",),
        description="small",
        samples=shape[0],
        shape=shape,
        columns=tuple(
            Column(name=name, dtype=dtype, unit=unit, categories=tuple(told))
            for name, dtype, unit, *told in columns
        ),
        classes=classes,
        left_out=left_out,
    )


def data(**nodes):
    return TrainingData({PartyId(node): one for node, one in nodes.items()})


AGE = ("age", "Int64", "years")


def test_equal_sets_differ_in_nothing_whatever_their_size():
    found = data(north=described(AGE, shape=(10, 1)), south=described(AGE, shape=(99, 1)))

    assert ((), ("age",)) == (found.differences, found.common_columns)


def test_columns_types_and_units_are_compared_by_name():
    found = data(
        north=described(AGE, ("chol", "Float64", "mg/dl")),
        south=described(("chol", "Float64", "mmol/l"), AGE),
        west=described(("age", "String", ""), ("chol", "Float64", "mg/dl"), ("sex", "Int64", "")),
    )

    assert [
        "column age: Int64 years at north, south; String at west",
        "column chol: Float64 mg/dl at north, west; Float64 mmol/l at south",
        "column sex: absent at north, south; Int64 at west",
    ] == [str(one) for one in found.differences]
    assert () == found.common_columns


def test_types_classes_and_shapes_are_compared():
    north = described(data_type="images", shape=(10, 28, 28, 1), classes=("ill", "well"))
    south = described(data_type="mednist", shape=(20, 64, 64, 1), classes=("well",))

    found = data(north=north, south=south)

    assert ["type", "shape", "classes"] == [one.subject for one in found.differences]
    assert "shape: 28 x 28 x 1 at north; 64 x 64 x 1 at south" == str(found.differences[1])


def test_people_read_one_line_for_each_node_and_difference():
    found = data(north=described(AGE, left_out=2), south=described(("age", "Int64", "months")))

    assert (
        "north: heart, tabular, 10 samples, 2 left out\n"
        "south: heart, tabular, 10 samples\n"
        "the same everywhere: no column\n"
        "differs: column age: Int64 years at north; Int64 months at south"
    ) == str(found)


def test_the_vocabulary_of_a_column_is_what_all_nodes_tell_together():
    found = data(
        north=described(("sex", "String", "", "F", "M")), south=described(("sex", "String", "", "M", "X"))
    )

    assert ("F", "M", "X") == found.categories("sex")
    assert ["categories of sex: F, M at north; M, X at south"] == [str(one) for one in found.differences]


def test_a_node_that_does_not_tell_its_categories_is_named_with_what_helps():
    found = data(north=described(("sex", "String", "", "F")), south=described(("sex", "String", "")))

    with pytest.raises(InvalidSettingsError, match=r"south: does not tell them.*tell_categories"):
        found.categories("sex")
