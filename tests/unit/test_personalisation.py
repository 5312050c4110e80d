"""What is a node's own stays there, survives from round to round, and fits its data better than the global model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import InvalidArgumentsError, ModelMismatchError, PlanContractError
from common.optimizers import AdamModule, Optimizer, RidgeRegularizer
from common.payload.tensors import load_tensors, save_tensors
from common.training_args import TrainingArgs
from common.training_plans import TorchTrainingPlan
from node.worker.session import Session
from researcher.aggregators import FedAverage
from tests.support.plans import prepared
from tests.support.study import LR, Study, gradient, hospitals, line
from tests.support.tasks import content_of

TABLES = hospitals((1.0, -2.0, 0.5), (3.0, 0.0, -1.0))


class Headed(TorchTrainingPlan):
    """Share the slopes; the intercept is the node's own (FedPer)."""

    def init_model(self, model_args):
        return torch.nn.Linear(2, 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.05)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data).squeeze(1), target) / 2

    def training_data(self):
        data = TabularDataset(["a", "b"], "y", target_dtype="float32")
        return DataManager(data, batch_size=4, shuffle=False)

    def tag_parameters(self, name):
        return {"local", "persistent"} if name == "bias" else set()


class Forgetful(Headed):
    """Forget the intercept after each round."""

    def tag_parameters(self, name):
        return {"local"} if name == "bias" else set()


class Stubborn(Headed):
    """Send everything, and go on with one's own slopes."""

    def tag_parameters(self, name):
        return {"persistent"} if name == "weight" else set()


class Normalised(Headed):
    """Keep all of BatchNorm at the node (FedBN)."""

    def init_model(self, model_args):
        return torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))

    def tag_parameters(self, name):
        return {"local", "persistent"} if name in self.batch_norm_params() else set()


class Shared(Headed):
    """Send all of BatchNorm."""

    def init_model(self, model_args):
        return torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))

    def tag_parameters(self, name):
        return set()


class Secretive(Headed):
    """Send nothing."""

    def tag_parameters(self, name):
        return {"local"}


class Confused(Headed):
    """Use a tag that does not exist."""

    def tag_parameters(self, name):
        return "local"


def trained(table, shared, own, steps=3):
    """Return slopes and intercept after some steps from slopes that were received and an own intercept."""
    w = np.append(shared, own)
    for step in range(steps):
        w -= LR * gradient(table, w, step)
    return w


def test_a_personal_head_is_never_sent_and_goes_on_where_it_was(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), plan=Headed)
    start = {name: value.numpy().ravel() for name, value in study.plan().all_params().items()}
    slopes, heads = start["weight"].astype(float), {node: float(start["bias"][0]) for node in TABLES}

    for _ in range(3):
        study.round()
        ends = {node: trained(table, slopes, heads[node]) for node, table in TABLES.items()}
        slopes = np.mean([end[:2] for end in ends.values()], axis=0)
        heads = {node: end[2] for node, end in ends.items()}

    assert ["weight"] == list(study.weights)
    np.testing.assert_allclose(study.weights["weight"].ravel(), slopes, rtol=0, atol=1e-5)
    for node in TABLES:
        assert heads[node] == pytest.approx(load_tensors(study.kept[node])["plan/bias"].item(), abs=1e-5)


def test_a_local_tensor_that_is_not_persistent_begins_each_round_anew(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), plan=Forgetful)
    start = {name: value.numpy().ravel() for name, value in study.plan().all_params().items()}
    slopes, head = start["weight"].astype(float), float(start["bias"][0])

    for _ in range(2):
        study.round()
        slopes = np.mean([trained(table, slopes, head)[:2] for table in TABLES.values()], axis=0)

    np.testing.assert_allclose(study.weights["weight"].ravel(), slopes, rtol=0, atol=1e-5)
    assert {} == study.kept


def test_a_persistent_tensor_is_sent_and_the_node_goes_on_with_its_own(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), plan=Stubborn)
    start = {name: value.numpy().ravel() for name, value in study.plan().all_params().items()}
    own = {node: start["weight"].astype(float) for node in TABLES}
    intercept = float(start["bias"][0])

    for _ in range(2):
        study.round()
        ends = [trained(table, own[node], intercept) for node, table in TABLES.items()]
        own = dict(zip(TABLES, [end[:2] for end in ends], strict=True))
        intercept = np.mean([end[2] for end in ends])

    np.testing.assert_allclose(study.line, np.mean(ends, axis=0), rtol=0, atol=1e-5)


def test_batch_norm_stays_at_its_node_with_its_statistics(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), plan=Normalised)
    study.run(2)

    assert {"1.weight", "1.bias"} == set(study.weights)
    kept = [load_tensors(study.kept[node]) for node in TABLES]
    assert {f"plan/{name}" for name in study.plan().batch_norm_params()} == kept[0].keys()
    assert 6 == kept[0]["plan/0.num_batches_tracked"].item()
    assert not torch.equal(kept[0]["plan/0.running_mean"], kept[1]["plan/0.running_mean"])


def test_buffers_that_are_not_shared_go_on_at_their_node_and_never_leave(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), plan=Shared, share_persistent_buffers=False)
    first = {name: value.copy() for name, value in study.weights.items()}
    study.run(2)

    buffers = {"0.running_mean", "0.running_var", "0.num_batches_tracked"}
    assert {f"plan/{name}" for name in buffers} == load_tensors(study.kept["n0"]).keys()
    assert 6 == load_tensors(study.kept["n0"])["plan/0.num_batches_tracked"].item()
    for name in buffers:
        np.testing.assert_array_equal(first[name], study.weights[name])
    assert (first["0.weight"] != study.weights["0.weight"]).any()


def test_a_warm_worker_knows_nothing_of_a_head_that_was_not_kept(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), plan=Headed)
    study.run(2)
    sent = study.parcels.pack(study.model, study.encoding)
    study.number += 1

    def did(session):
        task = study.task("n0", sent)
        made = session.run(task, lambda _: None)
        return content_of(made.update), content_of(made.state)

    assert did(Session()) == did(study.sessions["n0"])
    study.kept.clear()
    assert did(Session()) == did(study.sessions["n0"])


def test_what_a_node_kept_of_another_model_is_refused(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), plan=Headed)
    study.round()
    study.kept["n0"] = tmp_path / "other"
    save_tensors(study.kept["n0"], {"plan/bias": torch.zeros(7)})

    with pytest.raises(ModelMismatchError, match="what the node kept"):
        study.round()


@pytest.mark.parametrize(
    ("plan", "said"), [(Secretive, "leaves nothing that could be sent"), (Confused, "must return a set")]
)
def test_tags_that_make_no_sense_are_refused(plan, said):
    with pytest.raises(PlanContractError, match=said):
        prepared(plan)


TESTED = {"test_ratio": 0.25, "test_on_global_updates": True, "test_on_local_updates": True}


def test_ditto_is_that_of_the_paper(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), ditto_lambda=0.4)
    x, own = np.zeros(3), {node: np.zeros(3) for node in TABLES}

    for _ in range(3):
        study.round()
        ends = []
        for node, table in TABLES.items():
            y, v = x.copy(), own[node].copy()
            for step in range(3):
                y -= LR * gradient(table, y, step)
                v -= LR * (gradient(table, v, step) + 0.4 * (v - x))
            own[node] = v
            ends.append(y)
        x = np.mean(ends, axis=0)
        np.testing.assert_allclose(study.line, x, rtol=0, atol=1e-5)
        for node in TABLES:
            kept = load_tensors(study.kept[node])
            found = line({name: kept[f"ditto/{name}"].numpy() for name in ("weight", "bias")})
            np.testing.assert_allclose(found, own[node], rtol=0, atol=1e-5)


def losses(done):
    return {one.on: one.metrics["loss"] for one in done.validations}


def test_personal_models_of_ditto_fit_their_nodes_better_than_the_global_one(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), ditto_lambda=0.1, test_metric="MEAN_SQUARE_ERROR", **TESTED)
    study.run(15)

    for done in study.done.values():
        found = losses(done)
        assert {"global", "local", "personal"} == found.keys()
        assert found["personal"] < 0.5 * found["global"]


def test_a_validation_alone_is_of_the_personal_model_too_and_changes_nothing(tmp_path):
    study = Study(tmp_path, TABLES, FedAverage(), ditto_lambda=0.1, **TESTED)
    study.run(3)
    sent = study.parcels.pack(study.model, study.encoding)
    study.number += 1

    made = Session().run(study.task("n0", sent, train=False), lambda _: None)

    assert {"global", "personal"} == losses(made.done).keys()
    assert losses(made.done)["personal"] == pytest.approx(losses(study.done["n0"])["personal"])
    assert made.state is None


def test_fine_tuning_is_validated_and_forgotten(tmp_path):
    plain = Study(tmp_path / "plain", TABLES, FedAverage(), **TESTED)
    tuned = Study(tmp_path / "tuned", TABLES, FedAverage(), finetune_updates=20, **TESTED)
    plain.run(4)
    tuned.run(4)

    assert plain.model == tuned.model
    assert {} == tuned.kept
    for node, done in tuned.done.items():
        assert losses(done)["personal"] < 0.7 * losses(done)["global"]
        assert losses(plain.done[node])["global"] == losses(done)["global"]


class Adaptive(Headed):
    """Step by the optimizer that the arguments name."""

    def init_optimizer(self, optimizer_args):
        kinds = {
            "sgd": lambda: torch.optim.SGD(self.model().parameters(), lr=0.05, momentum=0.9),
            "adam": lambda: torch.optim.Adam(self.model().parameters(), lr=0.05),
            "modules": lambda: Optimizer(0.05, modules=[AdamModule()], regularizers=[RidgeRegularizer(0.1)]),
        }
        return kinds[optimizer_args["kind"]]()

    def tag_parameters(self, name):
        return set()


@pytest.mark.parametrize("kind", ["sgd", "adam", "modules"])
def test_an_optimizer_that_is_kept_goes_on_as_if_there_were_no_rounds(tmp_path, kind):
    table = {"n0": TABLES["n0"]}
    args = {"optimizer_args": {"kind": kind}, "plan": Adaptive}

    kept = Study(tmp_path / "kept", table, FedAverage(), keep_optimizer=True, **args).run(3)
    fresh = Study(tmp_path / "fresh", table, FedAverage(), **args).run(3)
    once = Study(tmp_path / "once", table, FedAverage(), num_updates=9, **args).run(1)

    np.testing.assert_allclose(kept.line, once.line, rtol=0, atol=1e-6)
    assert np.abs(fresh.line - once.line).max() > 1e-3


def test_an_optimizer_of_another_kind_begins_afresh(tmp_path):
    table = {"n0": TABLES["n0"]}
    study = Study(
        tmp_path, table, FedAverage(), plan=Adaptive, keep_optimizer=True, optimizer_args={"kind": "adam"}
    )
    study.round()
    study.args["optimizer_args"] = {"kind": "sgd"}
    study.round()

    assert {"optimizer/SGD/0/momentum_buffer", "optimizer/SGD/1/momentum_buffer"} == load_tensors(
        study.kept["n0"]
    ).keys()


def test_there_is_one_personal_model_at_a_time():
    with pytest.raises(InvalidArgumentsError, match="each makes the personal model"):
        TrainingArgs.of({"num_updates": 1, "finetune_updates": 1, "ditto_lambda": 0.1})
