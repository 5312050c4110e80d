"""Names of metrics come from the plan's source and carry no more than two small numbers."""

import pytest

from common.training_plans.metric_names import is_declared

SOURCE = 'NAMES = {"dice_class": 1, "layer": 2}\n'


@pytest.mark.parametrize(
    "name", ["loss", "ACCURACY", "dice_class", "dice_class3", "layer12dice_class7", "Custom_1"]
)
def test_names_that_the_plan_spells_out_are_declared(name):
    assert is_declared(name, SOURCE)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "7",
        "12 7",
        "dice",
        "dice_class of patient Smith",
        "dice_class1234",
        "layer1dice_class2layer3",
        "1layer2layer3",
    ],
)
def test_other_names_are_not(name):
    assert not is_declared(name, SOURCE)


def test_a_plan_that_is_no_python_declares_only_our_own_names():
    assert (True, False) == (is_declared("loss", "def ("), is_declared("dice_class", "def ("))
