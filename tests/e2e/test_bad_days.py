"""What goes wrong between a researcher and a hospital is said with code, cause and remedy, and nothing is lost by it.

Everything is real: RabbitMQ with mutual TLS, the agent and its workers as processes.
"""

from __future__ import annotations

import pytest

from common.errors import (
    AmbiguousDatasetError,
    NoDatasetError,
    PlanNotApprovedError,
    RoundFailedError,
)
from common.training_plans.source import plan_source
from node.registry import Registry
from researcher import Experiment, MinimumStrategy
from researcher.experiment_file import import_plan
from tests.support.world import TAG, World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

PLAN = '''
import os

import torch
from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class Moody(TorchTrainingPlan):
    """Fit a line, or fail in the way that it is told."""

    def init_model(self, model_args):
        of_a_worker = os.environ.get("PYTHONHASHSEED") == "0"
        return torch.nn.Linear(1, 2 if model_args.get("by_machine") and of_a_worker else 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.01)

    def training_step(self, data, target):
        mood = self.optimizer_args().get("mood")
        if mood == "raise":
            raise ValueError(f"patient {target[0]} is 4711")
        loss = torch.nn.functional.mse_loss(self.model()(data).squeeze(1), target.float())
        return loss * float("nan") if mood == "nan" else loss

    def training_data(self):
        column = self.optimizer_args().get("column", "x")
        return DataManager(TabularDataset(column, "y"), batch_size=8)
'''

TABLE = "x,y,gaps,words\n" + "".join(
    f"{row},{row % 2},{row if row % 4 else ''},{'low' if row < 8 else 'high'}\n" for row in range(16)
)


@pytest.fixture(scope="module")
def world(tmp_path_factory, moody, forked_for_all):
    folder, source = tmp_path_factory.mktemp("world"), plan_source(moody)
    with World(folder, ["north"], table=TABLE, plan=source, plan_name="Moody") as world:
        yield world.start()


@pytest.fixture(scope="module")
def place(world):
    return world.enter()


@pytest.fixture(scope="module")
def moody(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("plans"), PLAN)


def planned(folder, source, name="Moody"):
    file = folder / "plan.py"
    file.write_text(source)
    return import_plan(file, name)


def arguments(**mood):
    return {"num_updates": 2, "random_seed": 1, "optimizer_args": mood}


@pytest.fixture
def experiment(place, moody):
    with Experiment(
        tags=[TAG], training_plan_class=moody, training_args=arguments(), federation=place, observers=()
    ) as experiment:
        yield experiment


def explained(error):
    """Return an error's text; its cause and remedy are there as well."""
    assert error.cause
    assert error.advice
    return str(error)


def test_without_a_data_set_with_the_tag_nothing_is_begun(world, experiment):
    experiment.set_tags(["nothing"])

    with pytest.raises(NoDatasetError) as caught:
        experiment.run(1)

    assert "WRN-701: there is no data set with the tags nothing" in explained(caught.value)
    assert "warren-researcher datasets" in caught.value.advice
    assert experiment.folder is None


def test_a_node_with_two_matching_sets_is_named_with_both(world, experiment):
    registry = Registry(world.homes["north"].registry_path)
    for name in ("first", "second"):
        registry.add(
            world.folder / "north.csv",
            name=name,
            tags=["twice", name],
            description="the same",
            data_type="tabular",
        )
    registry.close()
    experiment.set_tags(["twice"])

    with pytest.raises(AmbiguousDatasetError) as caught:
        experiment.run(1)

    assert "WRN-702: north has 2 data sets with the tags twice: first, second" in explained(caught.value)
    assert experiment.folder is None


def test_a_plan_that_is_not_approved_says_where_and_how_to_ask(place, tmp_path):
    other = planned(tmp_path, PLAN.replace("lr=0.01", "lr=0.02"))
    with Experiment(
        tags=[TAG], training_plan_class=other, training_args=arguments(), federation=place, observers=()
    ) as experiment:
        with pytest.raises(PlanNotApprovedError) as caught:
            experiment.run(1)
        assert f"WRN-501: plan {experiment.plan_hash} is unknown at north" in explained(caught.value)
        experiment.request_approval("please")
        with pytest.raises(PlanNotApprovedError, match="is pending at north"):
            experiment.run(1)

    for way in (
        "request_approval(",
        "warren-researcher run FILE --request-approval",
        "warren-node plan approve HOME",
    ):
        assert way in caught.value.advice
    assert experiment.folder is None


FAILURES = [
    ({"mood": "raise"}, "WRN-504: ValueError at line LINE of the plan, in Moody.training_step"),
    ({"mood": "nan"}, "WRN-610: what the task made does not leave its node: "),
    ({"column": "gaps"}, "WRN-405: A column has missing values: 'gaps'"),
    ({"column": "words"}, "WRN-404: A column is not numeric: 'words'"),
    ({"column": "z"}, "WRN-403: A column does not exist in the data set: 'z'"),
]


@pytest.fixture(scope="module")
def going_on(place, moody):
    """An experiment that all failures happen to, one after the other."""
    with Experiment(
        tags=[TAG], training_plan_class=moody, training_args=arguments(), federation=place, observers=()
    ) as experiment:
        assert 1 == experiment.run(1)
        yield experiment


@pytest.mark.parametrize(("mood", "text"), FAILURES, ids=["raises", "nan", "gaps", "words", "no column"])
def test_a_round_that_fails_at_a_node_says_why_and_keeps_what_there_was(mood, text, world, moody, going_on):
    lines = plan_source(moody).splitlines()
    number = next(number for number, line in enumerate(lines, start=1) if "raise ValueError" in line)
    before = list(going_on.history())
    going_on.set_training_args(arguments(**mood))

    with pytest.raises(RoundFailedError) as caught:
        going_on.run(1)

    said = explained(caught.value)
    assert said.startswith(f"WRN-703: round {going_on.round_current() + 1} failed: north: WRN-")
    assert text.replace("LINE", str(number)) in said
    assert "4711" not in said
    going_on.set_training_args(arguments())
    assert 1 == going_on.run(1)
    after = list(going_on.history())
    assert before == after[:-2]
    assert ["failed", "closed"] == [record.state.value for record in after[-2:]]
    assert before[-1].model == after[-1].base
    if mood.get("mood") == "raise":
        assert "is 4711" in world.homes["north"].log_path.read_text()


def test_a_data_file_that_is_gone_fails_the_round_and_can_be_put_back(world, going_on):
    file, aside = world.folder / "north.csv", world.folder / "aside.csv"
    file.rename(aside)

    with pytest.raises(RoundFailedError) as caught:
        going_on.run(1)

    assert "WRN-402" in explained(caught.value)
    assert str(file) not in str(caught.value)
    aside.rename(file)
    assert 1 == going_on.run(1)


def test_a_model_of_another_shape_is_refused_at_the_node(world, place, moody):
    with (
        Experiment(
            tags=[TAG],
            training_plan_class=moody,
            model_args={"by_machine": True},
            training_args=arguments(),
            federation=place,
            observers=(),
        ) as experiment,
        pytest.raises(RoundFailedError) as caught,
    ):
        experiment.run(1)

    assert "WRN-705: Tensors do not fit the model" in explained(caught.value)
    assert "weight" in world.homes["north"].log_path.read_text()


def test_with_a_minimum_one_bad_update_is_named_and_the_round_goes_on_without_it(place, moody):
    """The only node is refused, so even the minimum is missed; but the deadline is not waited for."""
    with Experiment(
        tags=[TAG],
        training_plan_class=moody,
        training_args=arguments(mood="nan"),
        node_selection_strategy=MinimumStrategy(min_nodes=1, deadline_s=600),
        federation=place,
        observers=(),
    ) as experiment:
        with pytest.raises(RoundFailedError, match="WRN-610"):
            experiment.run(1)
        assert "failed" == experiment.history()[0].nodes["north"].outcome
