"""Running statistics, counters and tied weights stay what they are through training, files and every aggregator."""

import numpy as np
import pytest
import torch
from torch import nn

from common.data import DataManager
from common.payload.header import read_header
from common.payload.tensors import load_tensors, save_tensors
from common.training_plans import TorchTrainingPlan
from researcher.aggregators import (
    Bulyan,
    Contribution,
    CoordinateMedian,
    FedAverage,
    GeometricMedian,
    Krum,
    NormClipping,
    TrimmedMean,
)
from tests.support.plans import prepared

EVERY = pytest.mark.parametrize(
    "aggregator",
    [
        FedAverage(),
        CoordinateMedian(),
        TrimmedMean(0.2),
        Krum(byzantine=1, keep=3),
        Bulyan(byzantine=1),
        GeometricMedian(),
        NormClipping(max_norm=0.5),
    ],
    ids=lambda one: type(one).__name__,
)
NODES = 7
STATISTICS = {"norm.running_mean", "norm.running_var"}
COUNTER = "norm.num_batches_tracked"


class TiedPlan(TorchTrainingPlan):
    """A model whose last layer is its first one turned round, with statistics and a frozen part between."""

    class Net(nn.Module):
        """Four numbers in, four out."""

        def __init__(self):
            super().__init__()
            self.into = nn.Linear(4, 4, bias=False)
            self.norm = nn.BatchNorm1d(4)
            self.frozen = nn.Linear(4, 4)
            self.out = nn.Linear(4, 4)
            self.out.weight = self.into.weight
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.out(self.frozen(self.norm(self.into(x))))

    def init_model(self):
        return self.Net()

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.05)

    def training_step(self, data, target):
        return nn.functional.mse_loss(self.model()(data), target)

    def training_data(self):
        return DataManager([])


def loader(seed):
    rng = np.random.default_rng(seed)
    rows = [
        (row, row[::-1].copy()) for row in (rng.normal(size=(20, 4)) * (1 + seed) + seed).astype(np.float32)
    ]
    return DataManager(rows, batch_size=5).split(test_ratio=0, seed=seed).train


def trained(base, seed, **args):
    """Return the update of a node with data of its own."""
    plan = prepared(TiedPlan, num_updates=3 + seed, **args)
    plan.import_model(base)
    plan.train(loader(seed), lambda point: None)
    return plan.after_training_params()


@pytest.fixture
def base(tmp_path):
    prepared(TiedPlan).export_model(tmp_path / "base")
    return tmp_path / "base"


def contributions(folder, base, **args):
    made = []
    for index in range(NODES):
        save_tensors(folder / f"n{index}", trained(base, index, **args))
        made.append(Contribution(f"n{index}", folder / f"n{index}", samples_seen=index + 1, samples_train=20))
    return made


def test_an_update_has_what_training_made_of_statistics_and_both_names_of_tied_weights(base):
    before, after = load_tensors(base), trained(base, 2)

    assert before.keys() == after.keys()
    assert torch.equal(after["into.weight"], after["out.weight"])
    assert not torch.equal(before["into.weight"], after["into.weight"])
    assert torch.equal(before["frozen.weight"], after["frozen.weight"])
    assert 5 == after[COUNTER]


def test_weights_stay_tied_through_files(base):
    plan = prepared(TiedPlan, random_seed=99)
    plan.import_model(base)

    assert plan.model().into.weight is plan.model().out.weight
    assert torch.equal(load_tensors(base)["out.weight"], plan.model().into.weight)
    assert STATISTICS | {COUNTER} == read_header(base).buffers


@EVERY
def test_every_aggregator_keeps_buffers_and_ties_sound(aggregator, base, tmp_path):
    parts = contributions(tmp_path, base)

    aggregator.aggregate(base, parts, tmp_path / "new")

    new, updates = load_tensors(tmp_path / "new"), [load_tensors(one.content) for one in parts]
    values = [load_tensors(base), *updates]
    assert torch.equal(new["into.weight"], new["out.weight"])
    assert torch.equal(values[0]["frozen.weight"], new["frozen.weight"])
    for name in (*STATISTICS, COUNTER):
        stacked = torch.stack([one[name] for one in values])
        assert (new[name] >= stacked.amin(dim=0)).all(), name
        assert (new[name] <= stacked.amax(dim=0)).all(), name
    assert (torch.int64, []) == (new[COUNTER].dtype, list(new[COUNTER].shape))
    assert read_header(base).buffers == read_header(tmp_path / "new").buffers
    plan = prepared(TiedPlan)
    plan.import_model(tmp_path / "new")
    assert all(loss is not None for loss in plan.validate(loader(0)).metrics.values())


@EVERY
def test_buffers_that_stay_at_home_leave_those_of_the_model_as_they_are(aggregator, base, tmp_path):
    parts = contributions(tmp_path, base, share_persistent_buffers=False)

    aggregator.aggregate(base, parts, tmp_path / "new")

    before, new = load_tensors(base), load_tensors(tmp_path / "new")
    for name in (*STATISTICS, COUNTER):
        assert torch.equal(before[name], new[name]), name
    assert not torch.equal(before["into.weight"], new["into.weight"])


def test_postprocess_does_not_see_buffers_that_stay_at_home(base):
    seen = {}

    class Looking(TiedPlan):
        def postprocess(self, params):
            seen[self._training_args.share_persistent_buffers] = set(params)
            return params

    for share in (True, False):
        plan = prepared(Looking, num_updates=2, share_persistent_buffers=share)
        plan.train(loader(1), lambda point: None)
        assert load_tensors(base).keys() == plan.after_training_params().keys()

    assert STATISTICS | {COUNTER} == seen[True] - seen[False]


def test_a_stale_update_cannot_make_a_variance_negative(tmp_path):
    def file(name, variance, weight):
        tensors = {"running_var": torch.tensor([variance]), "weight": torch.tensor([weight])}
        save_tensors(tmp_path / name, tensors, {"buffers": '["running_var"]'})
        return tmp_path / name

    start, base = file("start", 1.0, 1.0), file("base", 0.1, 5.0)
    stale = Contribution(
        "n", file("update", 0.2, 3.0), samples_seen=1, samples_train=1, start=start, scale=0.5
    )

    FedAverage().aggregate(base, [stale], tmp_path / "new")

    new = load_tensors(tmp_path / "new")
    assert [pytest.approx(0.15)] == new["running_var"].tolist()
    assert [6.0] == new["weight"].tolist()
