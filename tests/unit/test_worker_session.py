"""A worker does the tasks of a run, warm and reproducibly."""

import json
import sys

import pytest
import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import (
    DataFileGoneError,
    InvalidTensorsError,
    MissingExtraError,
    MissingValuesError,
    ModelMismatchError,
    PlanContractError,
    PlanFailedError,
    PlanHashError,
    UnknownColumnError,
    WrongDataTypeError,
)
from common.payload.tensors import load_tensors, save_tensors
from common.pooling import metrics_of
from common.training_plans import TorchTrainingPlan
from node.worker import exchange
from node.worker.protocol import LOSS_POINTS, DatasetSource
from node.worker.session import Session
from tests.support.tasks import DATASET, Desk, content_of


class ChoosingPlan(TorchTrainingPlan):
    """Take the first column that the researcher names."""

    def init_model(self, model_args):
        return torch.nn.Linear(1, 1)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data).squeeze(1), target.float())

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_data(self):
        return DataManager(TabularDataset(self.optimizer_args().get("column", "a"), "y"), batch_size=8)


class SizedPlan(ChoosingPlan):
    """Take as many inputs as the researcher says."""

    def init_model(self, model_args):
        return torch.nn.Linear(model_args["inputs"], 1)


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    made.write_model()
    return made


def run(desk, session=None, **task):
    """Run one task and return what came of it, with the progress that was reported."""
    progress = []
    made = (session or Session()).run(desk.task(**task), progress.append)
    return made.done, progress


def trained(desk, session=None, **task):
    """Run one task and return its update."""
    return content_of((session or Session()).run(desk.task(**task), lambda progress: None).update)


def weights(model):
    return {name: value.tolist() for name, value in load_tensors(model).items()}


def test_a_task_trains_the_model_and_tells_what_it_took(desk):
    made = Session().run(desk.task(args={"log_interval": 2}), lambda progress: None)

    done = made.done
    assert (done.samples_seen, done.samples_train, done.samples_test) == (40, 40, 0)
    assert [(point.iteration, point.samples) for point in done.losses] == [(2, 16), (4, 32), (5, 40)]
    assert load_tensors(made.update).keys() == load_tensors(desk.model).keys()
    assert weights(made.update) != weights(desk.model)
    assert done.validations == ()


def test_a_plan_that_reads_tables_refuses_data_of_another_type(desk):
    source = DatasetSource(dataset_id=DATASET, data_type="images", path=str(desk.table), parameters={})

    with pytest.raises(
        WrongDataTypeError, match="reads tabular data sets, and this one is registered as images"
    ):
        run(desk, dataset=source)


def test_a_warm_worker_gives_bit_for_bit_what_a_fresh_one_gives(desk):
    session = Session()
    run(desk, session, seed=1)
    run(desk, session, seed=2, args={"num_updates": 3})

    assert trained(desk, session) == trained(desk)


def test_a_warm_worker_makes_the_model_anew_for_other_arguments(tmp_path):
    desk, session = Desk(tmp_path, SizedPlan), Session()
    desk.write_model(inputs=1)
    run(desk, session, model_args={"inputs": 1})

    with pytest.raises(ModelMismatchError):
        run(desk, session, model_args={"inputs": 2})


def test_small_and_large_models_are_trained_alike(desk, monkeypatch):
    few = Session().run(desk.task(model=desk.model.read_bytes()), lambda progress: None)
    monkeypatch.setattr(exchange, "HANDED_BYTES", 100)
    many = Session().run(desk.task(), lambda progress: None)

    assert desk.update == many.update
    assert desk.update.read_bytes() == few.update


@pytest.mark.parametrize("changed", [{"seed": 12}, {"node_id": "south"}])
def test_another_seed_or_node_gives_another_stream(desk, changed):
    args = {"num_updates": None, "epochs": 2}

    assert trained(desk, args=args) != trained(desk, args=args, **changed)


def test_data_and_plan_are_read_once(desk):
    session = Session()
    first = trained(desk, session)
    desk.table.unlink()
    desk.plan.unlink()

    assert trained(desk, session) == first


def test_other_arguments_are_seen_by_the_plan_when_it_chooses_its_data(tmp_path):
    desk = Desk(tmp_path, ChoosingPlan)
    desk.write_model()
    session = Session()
    run(desk, session)

    warm = trained(desk, session, args={"optimizer_args": {"column": "b"}})

    assert trained(desk, args={"optimizer_args": {"column": "b"}}) == warm


def test_a_failure_leaves_nothing_warm_behind(desk):
    session = Session()
    run(desk, session)
    model = desk.model.read_bytes()
    desk.model.write_bytes(b"nothing")
    with pytest.raises(InvalidTensorsError):
        run(desk, session)
    desk.model.write_bytes(model)
    desk.table.unlink()

    with pytest.raises(DataFileGoneError):
        run(desk, session)


@pytest.mark.parametrize(
    ("columns", "error"),
    [("a,b,z,y,split", UnknownColumnError), ("a,b,c,y,split\n,1,1,1,train", MissingValuesError)],
)
def test_other_data_are_read_again(desk, columns, error):
    session = Session()
    run(desk, session)
    other = desk.folder / "other.csv"
    other.write_text(desk.table.read_text().replace("a,b,c,y,split", columns))
    source = DatasetSource(dataset_id=DATASET, data_type="tabular", path=str(other), parameters={})

    with pytest.raises(error):
        run(desk, session, dataset=source)


def test_both_models_are_validated_on_the_test_part_when_asked(desk):
    args = {
        "test_ratio": 0.25,
        "test_on_global_updates": True,
        "test_on_local_updates": True,
        "num_updates": 50,
    }
    done, _ = run(desk, args=args)

    received, trained = done.validations
    assert (done.samples_train, done.samples_test) == (30, 10)
    assert [(one.on, one.samples, sorted(one.metrics)) for one in done.validations] == [
        ("global", 10, ["ACCURACY", "loss"]),
        ("local", 10, ["ACCURACY", "loss"]),
    ]
    assert trained.metrics["loss"] < received.metrics["loss"]
    for one in done.validations:
        assert (10, True) == (one.statistics.cases, one.samples_fit)
        assert one.metrics["ACCURACY"] == metrics_of(one.statistics)["ACCURACY"]


def test_the_registered_split_column_decides_what_is_tested(desk):
    source = DatasetSource(
        dataset_id=DATASET, data_type="tabular", path=str(desk.table), parameters={"split_column": "split"}
    )
    done, _ = run(desk, dataset=source, args={"test_ratio": 0.5})

    assert (done.samples_train, done.samples_test) == (30, 10)


def test_validation_alone_writes_no_update(desk):
    made = Session().run(desk.task(train=False, args={"test_ratio": 0.5}), lambda progress: None)
    done = made.done

    assert [one.on for one in done.validations] == ["global"]
    assert (made.update, made.state, done.samples_seen, done.losses) == (None, None, 0, ())
    assert not desk.update.exists()


def test_without_a_test_part_nothing_is_validated(desk, caplog):
    done, _ = run(desk, args={"test_on_local_updates": True})

    assert done.validations == ()
    assert [record.message for record in caplog.records] == ["nothing to validate on"]


def test_parts_on(desk, seed, **args):
    """Return the validation loss of the global model, which tells test parts apart."""
    asked = {"test_ratio": 0.25, "test_on_global_updates": True} | args
    done, _ = run(desk, seed=seed, args=asked)
    return done.validations[0].metrics["loss"]


test_parts_on.__test__ = False


def test_the_test_part_is_the_same_in_each_round_unless_it_is_to_be_drawn_again(desk):
    kept = {test_parts_on(desk, seed) for seed in (1, 2)}
    drawn = {test_parts_on(desk, seed, shuffle_testing_dataset=True) for seed in (1, 2)}

    assert (len(kept), len(drawn)) == (1, 2)
    assert test_parts_on(desk, 1, random_seed=4) not in kept


SLOW = """
import time
import torch
from common.data import DataManager
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    def init_model(self):
        return torch.nn.Linear(1, 1)

    def training_step(self, data, target):
        end = time.monotonic() + {seconds}
        while time.monotonic() < end:
            pass
        return self.model()(data).mean()

    def training_data(self):
        return DataManager([(torch.ones(1), torch.ones(1))] * 2)
"""


def test_a_long_curve_is_thinned_and_its_end_kept(tmp_path):
    desk = Desk(tmp_path, SLOW.format(seconds=0))
    desk.write_model()

    done, progress = run(desk, args={"num_updates": 1100, "log_interval": 1})

    iterations = [point.iteration for point in done.losses]
    assert LOSS_POINTS // 2 <= len(iterations) <= LOSS_POINTS
    assert iterations == sorted(set(iterations))
    assert iterations[-1] == 1100
    assert all(one.task_id == done.task_id for one in progress)


def test_losses_are_told_while_a_task_takes_long(tmp_path):
    desk = Desk(tmp_path, SLOW.format(seconds=0.05))
    desk.write_model()

    done, progress = run(desk, args={"num_updates": 10, "log_interval": 1})

    told = [point for one in progress for point in one.losses]
    assert 1 <= len(progress) <= 3
    assert tuple(told) == done.losses[: len(told)]


FAILING = """
import torch
from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    def __init__(self):
        {init}

    def init_model(self):
        return torch.nn.Linear(3, 1)

    def training_step(self, data, target):
        return self.model()(data).mean()

    def training_data(self):
        {data}
"""


@pytest.mark.parametrize(
    ("init", "data", "error", "match"),
    [
        (
            "raise KeyError('secret')",
            "pass",
            PlanFailedError,
            "KeyError at line 10 of the plan, in Plan.__init__",
        ),
        ("pass", "return {}['secret']", PlanFailedError, "KeyError at line 19 .* Plan.training_data"),
        ("pass", "return 3", PlanContractError, "training_data returned int, not a DataManager"),
        (
            "pass",
            "return DataManager(TabularDataset('a', 'y', transform=lambda row: row['secret']))",
            PlanFailedError,
            "IndexError at line 19 .*<lambda>",
        ),
        ("pass", "return DataManager(TabularDataset('z', 'y'))", UnknownColumnError, "no column 'z'"),
    ],
)
def test_mistakes_of_a_plan_are_told_by_line(tmp_path, init, data, error, match):
    good = Desk(tmp_path, FAILING.format(init="pass", data="pass"))
    good.write_model()
    desk = Desk(tmp_path, FAILING.format(init=init, data=data))

    with pytest.raises(error, match=match) as raised:
        run(desk)

    assert "secret" not in raised.value.public_text


def test_a_model_of_another_shape_is_refused_before_training(desk):
    save_tensors(desk.model, {"weight": torch.zeros(1, 4), "bias": torch.zeros(1)})

    with pytest.raises(ModelMismatchError, match=r"weight is F32 \[1, 4\] and not F32 \[1, 3\]"):
        run(desk)
    assert not desk.update.exists()


@pytest.mark.parametrize(
    "task", [{"model_encoding": "raw+zstd", "model_decoded_bytes": 100}, {"encoding": "raw+zstd"}]
)
def test_without_the_package_for_compression_a_task_says_what_to_install(desk, monkeypatch, task):
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with pytest.raises(MissingExtraError, match="zstd compression needs the package zstandard"):
        run(desk, **task)


def test_a_model_that_is_not_encoded_as_it_is_said_to_be_is_refused(desk):
    with pytest.raises(InvalidTensorsError, match="not valid zstd"):
        run(desk, model_encoding="raw+zstd", model_decoded_bytes=10**9)
    note = {"encoding": "int8", "of": "change", "dtypes": {"weight": "F32"}}
    save_tensors(desk.model, load_tensors(desk.model), {"warren.encoding": json.dumps(note)})
    with pytest.raises(InvalidTensorsError, match="nothing that they could be about"):
        run(desk, model_encoding="int8")


def test_a_plan_that_was_changed_on_disk_does_not_run(desk):
    desk.plan.write_text(desk.plan.read_text() + "print('changed')\n")

    with pytest.raises(PlanHashError):
        run(desk)
