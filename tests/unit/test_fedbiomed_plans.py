"""A plan in Fed-BioMed's shape runs at a node after its import lines are changed."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from common.errors import PlanContractError, PlanFailedError, PlanSourceError
from common.payload.tensors import load_tensors
from common.training_plans import ProcessTypes
from common.training_plans.source import plan_source
from node.plan_report import Concern, report
from node.worker.protocol import DatasetSource
from node.worker.session import Session
from tests.support import fedbiomed_plans as examples
from tests.support.plans import LogisticPlan, loaded, prepared
from tests.support.tasks import DATASET, Desk

ARGS = {
    "num_updates": None,
    "epochs": 6,
    "loader_args": {"batch_size": 8},
    "optimizer_args": {"lr": 0.01},
    "log_interval": 1,
    "dry_run": False,
}
CLASSES = {"classes": 3}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Write 24 pictures of 8 by 8, each with a bright bar whose place is its label."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, size=24)
    values = rng.normal(size=(24, 8, 8)).astype(np.float32) * 0.1
    for picture, label in zip(values, labels, strict=True):
        picture[2 * label : 2 * label + 2] += 1
    np.save(folder / "pictures.npy", values)
    np.save(folder / "labels.npy", labels)
    return folder


class Ran:
    """One task of a plan in a worker, from its source."""

    def __init__(self, folder, plan, pictures, args=None, model_args=CLASSES):
        self.desk = Desk(folder, plan)
        self.desk.write_model(**model_args)
        source = DatasetSource(dataset_id=DATASET, data_type="custom", path=str(pictures), parameters={})
        order = self.desk.task(args=ARGS | (args or {}), model_args=model_args, dataset=source)
        made = Session().run(order, lambda progress: None)
        self.done = made.done
        self.before, self.after = load_tensors(self.desk.model), load_tensors(made.update)

    @property
    def changed(self):
        """The names of what training changed, without the layer's part."""
        return {
            name.partition(".")[0]
            for name, value in self.before.items()
            if not torch.equal(value, self.after[name])
        }


def test_the_basic_example_learns(pictures, tmp_path):
    ran = Ran(tmp_path, examples.DigitsPlan, pictures)

    losses = [point.loss for point in ran.done.losses]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert 6 * 24 == ran.done.samples_seen
    assert {"conv1", "norm1", "conv2", "fc1", "fc2"} == ran.changed
    assert 18 == ran.after["norm1.num_batches_tracked"]


def test_a_custom_plan_gives_its_own_metrics_and_changes_what_it_sends(pictures, tmp_path):
    testing = {"test_ratio": 0.25, "test_on_global_updates": True, "test_on_local_updates": True}
    ran = Ran(tmp_path, examples.CustomPlan, pictures, testing)

    assert [{"nll", "right"}] * 2 == [one.metrics.keys() for one in ran.done.validations]
    for name, value in ran.after.items():
        assert torch.equal(torch.round(value.double(), decimals=3).to(value.dtype), value), name


def test_frozen_layers_stay_as_they_are_in_transfer_learning(pictures, tmp_path):
    ran = Ran(tmp_path, examples.TransferPlan, pictures)

    # running statistics are no parameters: they follow the data, as in plain torch
    assert {"fc2", "norm1"} == ran.changed
    assert torch.equal(ran.before["norm1.weight"], ran.after["norm1.weight"])


def test_frozen_features_stay_as_they_are_altogether_if_buffers_stay_at_home(pictures, tmp_path):
    ran = Ran(tmp_path, examples.TransferPlan, pictures, {"share_persistent_buffers": False})

    assert {"fc2"} == ran.changed


def test_layers_have_learning_rates_of_their_own(pictures, tmp_path):
    rates = {"optimizer_args": {"lr": {"conv1": 0.0, "conv2": 0.01, "fc2": 0.1}}}

    assert {"conv2", "fc2", "norm1"} == Ran(tmp_path, examples.LayersPlan, pictures, rates).changed


# Dependencies

DEPENDENT = """
from common.data import DataManager
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    def init_dependencies(self):
        return ["import torch", "import math as mathematics", "from torch.nn import Linear", "import socket"]

    def init_model(self):
        return Linear(3, 1 + int(mathematics.sqrt(0)))

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data), target.float())

    def training_data(self):
        return DataManager([])
"""


@pytest.fixture
def dependent(tmp_path):
    path = tmp_path / "dependent_plan.py"
    path.write_text(DEPENDENT)
    spec = importlib.util.spec_from_file_location("dependent_plan", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module.Plan
    del sys.modules[spec.name]


def test_names_of_init_dependencies_are_there_when_the_plan_runs(dependent):
    plan = prepared(loaded(plan_source(dependent)))

    assert 1 == plan.model().out_features


def test_import_lines_of_init_dependencies_are_pointed_out_to_the_reader_like_those_of_the_file(dependent):
    remarks = report(plan_source(dependent))

    told = {(remark.concern, remark.name) for remark in remarks}
    assert {
        (Concern.IMPORTS, "math"),
        (Concern.IMPORTS, "torch.nn.Linear"),
        (Concern.NETWORK, "socket"),
    } <= told


def test_a_dependency_that_is_not_there_is_laid_at_its_line(dependent):
    source = plan_source(dependent).replace("import socket\n", "import not_installed_anywhere\n", 1)

    with pytest.raises(PlanFailedError, match="ModuleNotFoundError at line"):
        loaded(source)


@pytest.mark.parametrize("line", ["print(1)", "from torch import *", "import", 3])
def test_what_is_no_import_is_refused(line):
    plan = type("Plan", (LogisticPlan,), {"init_dependencies": lambda self: [line]})

    with pytest.raises(PlanSourceError, match="init_dependencies gives"):
        plan_source(plan)


# Preprocessing


class Batches:
    """Two batches."""

    samples = 4

    def __len__(self):
        return 2

    def __iter__(self):
        return iter([(torch.ones(2, 3), torch.ones(2, 1)), (torch.zeros(2, 3), torch.ones(2, 1))])


def doubled(loader):
    for data, target in loader:
        yield data * 2, target


def shifted(loader):
    return [(data + 1, target) for data, target in loader]


def sums(plan, passes=1):
    loader = plan.preprocessed(Batches())
    return [[data.sum().item() for data, _ in loader] for _ in range(passes)]


def test_preprocessing_changes_each_pass_one_method_after_the_other():
    plan = LogisticPlan()
    plan.add_preprocess(doubled, ProcessTypes.DATA_LOADER)
    plan.add_preprocess(method=shifted, process_type=ProcessTypes.DATA_LOADER)

    assert [[18, 6], [18, 6]] == sums(plan, passes=2)
    assert (2, 4) == (len(plan.preprocessed(Batches())), plan.preprocessed(Batches()).samples)


def test_a_method_that_is_given_again_counts_once():
    plan = LogisticPlan()
    plan.add_preprocess(doubled)
    plan.add_preprocess(doubled)

    assert [[12, 0]] == sums(plan)
    assert [[6, 0]] == sums(LogisticPlan())


@pytest.mark.parametrize(("method", "kind"), [(3, ProcessTypes.DATA_LOADER), (doubled, "DATA_LOADER")])
def test_preprocessing_takes_a_method_and_a_type(method, kind):
    with pytest.raises(PlanContractError, match="add_preprocess takes a method and one of ProcessTypes"):
        LogisticPlan().add_preprocess(method, kind)


def test_a_method_must_give_batches():
    plan = LogisticPlan()
    plan.add_preprocess(lambda loader: None)

    with pytest.raises(PlanContractError, match="returned NoneType, not batches"):
        sums(plan)


def test_a_plan_shows_and_saves_the_text_that_nodes_run(tmp_path):
    plan = LogisticPlan()
    plan.save_code(tmp_path / "plan.py")

    assert plan_source(LogisticPlan) == plan.source() == (tmp_path / "plan.py").read_text()
