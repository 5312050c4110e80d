"""SCAFFOLD, FedDyn and FedNova give the numbers of their papers, and do what they were invented for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import InvalidSettingsError, PlanContractError
from common.payload.tensors import load_tensors
from common.training_plans import TorchTrainingPlan
from node.worker.session import Session
from researcher.aggregators import (
    FedAverage,
    FedDyn,
    FedNova,
    Scaffold,
    aggregator_config,
    aggregator_of,
)
from tests.support.study import LR, Study, gradient, hospitals, optimum
from tests.support.tasks import content_of

TABLES = hospitals((1.0, -2.0, 0.5), (3.0, 0.0, -1.0), (-1.0, 1.0, 2.0))
PARTICIPATION = [("n0", "n1", "n2"), ("n0", "n2"), ("n1",), ("n0", "n1"), ("n2", "n1")]


def test_scaffold_is_that_of_the_paper_also_when_nodes_take_part_now_and_then(tmp_path):
    study = Study(tmp_path, TABLES, Scaffold(server_lr=0.8))

    x, c, own = np.zeros(3), np.zeros(3), {node: np.zeros(3) for node in TABLES}
    for nodes in PARTICIPATION:
        study.round(nodes)
        moves, changes = [], []
        for node in sorted(nodes):
            y = x.copy()
            for step in range(3):
                y -= LR * (gradient(TABLES[node], y, step) - own[node] + c)
            new = own[node] - c + (x - y) / (3 * LR)
            moves.append(y - x)
            changes.append(new - own[node])
            own[node] = new
        x = x + 0.8 * np.mean(moves, axis=0)
        c = c + np.sum(changes, axis=0) / len(TABLES)
        np.testing.assert_allclose(study.line, x, rtol=0, atol=1e-5)
        np.testing.assert_allclose(c, np.mean(list(own.values()), axis=0), rtol=0, atol=1e-12)
        kept = load_tensors(study.kept[min(nodes)])
        found = [*kept["scaffold/weight"].flatten().tolist(), kept["scaffold/bias"].item()]
        np.testing.assert_allclose(found, own[min(nodes)], rtol=0, atol=1e-5)


def test_feddyn_is_that_of_the_paper_also_when_nodes_take_part_now_and_then(tmp_path):
    alpha = 0.3
    study = Study(tmp_path, TABLES, FedDyn(alpha=alpha))

    x, h, own = np.zeros(3), np.zeros(3), {node: np.zeros(3) for node in TABLES}
    for nodes in PARTICIPATION:
        study.round(nodes)
        trained = []
        for node in sorted(nodes):
            y = x.copy()
            for step in range(3):
                y -= LR * (gradient(TABLES[node], y, step) - own[node] + alpha * (y - x))
            own[node] = own[node] - alpha * (y - x)
            trained.append(y)
        h = h - alpha / len(TABLES) * np.sum([y - x for y in trained], axis=0)
        x = np.mean(trained, axis=0) - h / alpha
        np.testing.assert_allclose(study.line, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_fednova_is_that_of_the_paper(tmp_path, momentum):
    updates = {"n0": 1, "n1": 5, "n2": 9}
    study = Study(
        tmp_path,
        TABLES,
        FedNova(momentum=momentum),
        updates=updates,
        optimizer_args={"lr": LR, "momentum": momentum},
    )

    x = np.zeros(3)
    for _ in range(3):
        study.round()
        directions, norms = [], []
        for node, table in TABLES.items():
            y, velocity, weights = x.copy(), np.zeros(3), np.zeros(updates[node])
            for step in range(updates[node]):
                velocity = momentum * velocity + gradient(table, y, step)
                y -= LR * velocity
                weights[: step + 1] += momentum ** np.arange(step, -1, -1)  # of each gradient in y
            norms.append(weights.sum())
            directions.append((x - y) / norms[-1])
        x = x - np.mean(norms) * np.mean(directions, axis=0)
        np.testing.assert_allclose(study.line, x, rtol=0, atol=1e-5)


FULL = {"loader_args": {"batch_size": 12}, "num_updates": 10, "optimizer_args": {"lr": 0.1}}


@pytest.mark.parametrize("aggregator", [Scaffold(), FedDyn(alpha=1.0)], ids=["scaffold", "feddyn"])
def test_drift_keeps_fedavg_from_the_optimum_and_is_corrected(tmp_path, aggregator):
    best = optimum(TABLES)

    plain = Study(tmp_path / "plain", TABLES, FedAverage(), **FULL).run(20).line
    corrected = Study(tmp_path / "corrected", TABLES, aggregator, **FULL).run(20).line

    assert np.abs(plain - best).max() > 0.1
    assert np.abs(corrected - best).max() < 0.1 * np.abs(plain - best).max()


def test_nodes_that_take_more_steps_pull_fedavg_away_and_not_fednova(tmp_path):
    updates, best = {"n0": 1, "n1": 3, "n2": 9}, optimum(TABLES)
    args = FULL | {"optimizer_args": {"lr": 0.01}}

    plain = (
        Study(tmp_path / "plain", TABLES, FedAverage("dataset_size"), updates=updates, **args).run(40).line
    )
    normalized = Study(tmp_path / "nova", TABLES, FedNova(), updates=updates, **args).run(40).line

    assert np.abs(plain - best).max() > 2 * np.abs(normalized - best).max()


@pytest.mark.parametrize("aggregator", [Scaffold(), FedDyn()], ids=["scaffold", "feddyn"])
def test_a_task_that_is_repeated_gives_the_same_update_and_the_same_state(tmp_path, aggregator):
    study = Study(tmp_path, TABLES, aggregator)
    study.run(2)
    carried = study.memory if aggregator.carries else None
    sent = study.parcels.pack(study.model, study.encoding, carried=carried)
    study.number += 1

    def did(session):
        task = study.task("n1", sent)
        made = session.run(task, lambda _: None)
        return content_of(made.update), content_of(made.state)

    warm = did(study.sessions["n1"])
    assert warm == did(study.sessions["n1"])
    assert warm == did(Session())


def test_a_node_that_lost_its_state_starts_afresh_and_says_so(tmp_path, caplog):
    study = Study(tmp_path, TABLES, Scaffold())
    study.round()
    sent = study.parcels.pack(study.model, study.encoding, carried=study.memory)
    study.number += 1

    Session().run(
        study.task("n1", sent, state=None, state_of=study.task("n1", sent).task.task_id), lambda _: None
    )

    assert [("state_missing", "scaffold")] == [
        (one.action, one.section) for one in caplog.records if hasattr(one, "section")
    ]


@pytest.mark.parametrize("encoding", ["fp16", "int8+zstd", "topk:0.5"])
def test_what_scaffold_needs_survives_every_encoding(tmp_path, encoding):
    study = Study(tmp_path, TABLES, Scaffold(), encoding=encoding, **FULL)

    far = np.abs(study.run(15).line - optimum(TABLES)).max()

    assert far < 0.2  # FedAvg ends 0.76 away


class TwoRates(TorchTrainingPlan):
    """Learn slopes and intercept at different rates."""

    def init_model(self, model_args):
        return torch.nn.Linear(2, 1)

    def init_optimizer(self, optimizer_args):
        weight, bias = self.model().parameters()
        return torch.optim.SGD([{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.2}])

    def training_step(self, data, target):
        return self.model()(data).square().mean()

    def training_data(self):
        return DataManager(TabularDataset(["a", "b"], "y"), batch_size=4)


def test_scaffold_says_that_it_needs_one_learning_rate(tmp_path):
    with pytest.raises(PlanContractError, match="one learning rate for SCAFFOLD"):
        Study(tmp_path, TABLES, Scaffold(), plan=TwoRates).round()


class Decaying(TwoRates):
    """Halve the learning rate after each step."""

    def init_optimizer(self, optimizer_args):
        optimizer = torch.optim.SGD(self.model().parameters(), lr=0.4)
        halve = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        optimizer.register_step_post_hook(lambda *_: halve.step())
        return optimizer


def test_learning_rates_may_change_from_step_to_step(tmp_path):
    study = Study(tmp_path, TABLES, Scaffold(), plan=Decaying)
    study.round()

    assert (3, pytest.approx(0.4 + 0.2 + 0.1)) == (study.done["n0"].steps, study.done["n0"].lr_sum)


def test_a_memory_of_another_aggregator_counts_as_none(tmp_path):
    other = Study(tmp_path / "other", TABLES, FedDyn())
    other.round()
    fresh, switched = (Study(tmp_path / name, TABLES, Scaffold()) for name in ("fresh", "switched"))
    fresh.round()
    switched.round(memory=other.memory)

    assert fresh.model == switched.model
    assert fresh.memory.read_bytes() == switched.memory.read_bytes()


@pytest.mark.parametrize(
    "aggregator", [Scaffold(server_lr=0.5), FedDyn(alpha=0.2), FedNova("samples_seen", 0.9)]
)
def test_settings_survive_the_ledger(aggregator):
    assert aggregator == aggregator_of(aggregator_config(aggregator))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scaffold(server_lr=0.0),
        lambda: FedDyn(alpha=-1.0),
        lambda: FedNova(momentum=1.0),
        lambda: FedNova("all"),
    ],
    ids=["server_lr", "alpha", "momentum", "weights"],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(InvalidSettingsError):
        make()
