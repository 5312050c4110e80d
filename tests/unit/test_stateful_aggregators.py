"""An experiment asks nodes for what its aggregator needs, and keeps what that remembers."""

from __future__ import annotations

import shutil

import pytest
import torch

from common.errors import RoundNotKeptError
from common.messages import FedDynCorrection, ScaffoldCorrection, TrainRequest
from common.payload.tensors import save_tensors
from researcher import FedAverage, FedDyn, FedNova, Scaffold
from researcher.aggregators import Contribution, Recall
from tests.support.experiments import make
from tests.support.fake_node import Trial, Update, always


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path / "nodes")
    for node in ("north", "south"):
        trial.start(node)
    yield trial
    trial.close()


class OtherDyn(FedDyn):
    """Another aggregator that remembers the same kind of thing."""


def remembered(experiment):
    return sorted(path.name for path in (experiment.folder / "aggregator").iterdir())


@pytest.mark.parametrize(
    ("aggregator", "correction"),
    [
        (FedAverage(), None),
        (FedNova(), None),
        (Scaffold(), ScaffoldCorrection()),
        (FedDyn(alpha=0.5), FedDynCorrection(alpha=0.5)),
    ],
    ids=["fedavg", "fednova", "scaffold", "feddyn"],
)
def test_nodes_are_told_what_to_do_and_what_to_build_on(federation, trial, aggregator, correction):
    experiment = make(federation, aggregator=aggregator)
    experiment.run(2)

    first, second = trial.nodes["north"].until(TrainRequest, 2)
    assert [correction, correction] == [first.correction, second.correction]
    assert [None, None] == [one.state_of for one in first.assignments]
    assert {one.node: one.task_id for one in first.assignments} == {
        one.node: one.state_of for one in second.assignments
    }
    assert isinstance(aggregator, Scaffold) == (second.model.sha256 != experiment.history()[1].base)


def test_an_update_without_what_the_aggregator_needs_is_refused_and_named(federation, trial):
    trial.nodes["south"].script = always(Update(lr_sum=None))
    experiment = make(federation, aggregator=Scaffold())

    with pytest.raises(Exception, match=r"south.*it tells no lr_sum"):
        experiment.run(1)


def test_a_retention_bounds_what_an_aggregator_remembers(federation):
    experiment = make(federation, aggregator=Scaffold(), retention={"models": 2})
    experiment.run(4)

    assert ["round-000003.safetensors", "round-000004.safetensors"] == remembered(experiment)
    assert 1 == experiment.run(1)


def test_a_memory_that_was_removed_by_hand_is_missed(federation):
    experiment = make(federation, aggregator=FedDyn())
    experiment.run(2)
    shutil.rmtree(experiment.folder / "aggregator")

    with pytest.raises(RoundNotKeptError, match="what its aggregator remembered was removed"):
        experiment.run(1)


def test_another_aggregator_begins_without_a_memory(federation, trial):
    experiment = make(federation, aggregator=Scaffold())
    experiment.run(2)
    experiment.set_aggregator(FedAverage())
    experiment.run(1)
    experiment.set_aggregator(Scaffold())
    experiment.run(1)

    sent = [one.model.sha256 for one in trial.nodes["north"].until(TrainRequest, 4)]
    bases = [one.base for one in experiment.history()]
    assert [True, False, True, True] == [one == base for one, base in zip(sent, bases, strict=True)]
    assert ["round-000001.safetensors", "round-000002.safetensors", "round-000004.safetensors"] == remembered(
        experiment
    )


def test_what_another_aggregator_remembered_is_no_memory_and_does_not_show(tmp_path):
    save_tensors(tmp_path / "base", {"w": torch.tensor([1.0, 2.0])})
    save_tensors(tmp_path / "north", {"w": torch.tensor([2.0, 5.0])})
    parts = [Contribution("north", tmp_path / "north", samples_seen=1, samples_train=1)]

    def made(aggregator, before):
        folder = tmp_path / "memory"
        recall = Recall(2, before, folder / f"{type(aggregator).__name__}-{before is None}")
        aggregator.aggregate(tmp_path / "base", parts, tmp_path / "new", recall)
        return recall.after, (tmp_path / "new").read_bytes(), recall.after.read_bytes()

    own, *afresh = made(FedDyn(alpha=0.5), None)
    other, *_ = made(OtherDyn(alpha=0.25), None)

    assert afresh == [*made(FedDyn(alpha=0.5), other)[1:]]
    assert afresh != [*made(FedDyn(alpha=0.5), own)[1:]]
