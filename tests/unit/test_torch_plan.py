"""A plan trains as its arguments say, reproducibly, and its mistakes are laid at its door."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from common.data import DataManager
from common.datasets import Dataset
from common.errors import (
    InvalidArgumentsError,
    InvalidTensorsError,
    ModelMismatchError,
    PlanContractError,
    PlanFailedError,
)
from common.payload.tensors import load_tensors, save_tensors
from common.training_args import TrainingArgs
from common.training_plans.seeding import derived_seed, seed_everything
from common.training_plans.training import train
from tests.support.plans import LogisticPlan, loaded, prepared


class Pairs(Dataset):
    """Samples in memory."""

    def __init__(self, data, target):
        self.data, self.target = np.asarray(data, np.float32), np.asarray(target)

    def bind(self, path, parameters):
        pass

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index], self.target[index]

    def sample_ids(self):
        return np.arange(len(self))

    def arrays(self):
        return self.data, self.target


RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(10, 3))
TARGET = (DATA.sum(axis=1, keepdims=True) > 0).astype(np.int64)


def parts(data=DATA, target=TARGET, test_ratio=0.0, **loader_args):
    made = DataManager(Pairs(data, target)).split(test_ratio=test_ratio, seed=1, loader_args=loader_args)
    made.passes.begin(5)
    return made


def trained(plan=LogisticPlan, loader=None, **args):
    """Train a fresh plan and return it with the points and the samples seen."""
    made = prepared(plan, **args)
    points = []
    seen = train(
        made, parts(batch_size=4).train if loader is None else loader, made._training_args, points.append
    )
    return made, points, seen


def iterations(points):
    return [(point.iteration, point.epoch, point.samples) for point in points]


def test_epochs_take_every_sample_once_each():
    _, points, seen = trained(num_updates=None, epochs=2, log_interval=2)

    assert seen == 20
    assert iterations(points) == [(2, 0, 8), (4, 1, 14), (6, 1, 20)]


def test_updates_go_on_over_epochs_with_the_short_batch_kept():
    _, points, seen = trained(num_updates=5, log_interval=0)

    assert seen == 4 + 4 + 2 + 4 + 4
    assert iterations(points) == [(5, 1, 18)]


def test_updates_win_over_epochs_and_over_the_cap_of_batches():
    _, points, _ = trained(num_updates=4, epochs=1, batch_maxnum=1, log_interval=0)

    assert iterations(points) == [(4, 1, 14)]


@pytest.mark.parametrize(
    ("args", "samples"),
    [
        ({"num_updates": None, "epochs": 3, "batch_maxnum": 2}, 24),
        ({"num_updates": None, "dry_run": True}, 4),
        ({"num_updates": 9, "dry_run": True}, 4),
        ({"num_updates": None, "epochs": 0}, 0),
        ({"num_updates": 0}, 0),
    ],
)
def test_a_round_ends_where_its_arguments_say(args, samples):
    _, points, seen = trained(**args)

    assert seen == samples
    assert [point.samples for point in points[-1:]] == [samples] * bool(samples)


def test_the_same_seed_gives_the_same_model_bit_for_bit():
    one, two = (trained(num_updates=7)[0] for _ in range(2))

    assert one.model().weight.tolist() == two.model().weight.tolist()
    assert trained(num_updates=7, random_seed=4)[0].model().weight.tolist() != one.model().weight.tolist()


def test_seeds_are_another_stream_for_each_node_and_the_same_on_every_machine():
    assert derived_seed("round", 1, "cleveland") == 2367821712122020041
    assert derived_seed("round", 1, "cleveland") != derived_seed("round", 1, "hungarian")


def test_seeding_repeats_every_generator():
    draws = []
    for _ in range(2):
        seed_everything(2**62 + 1)
        draws.append((random.random(), np.random.random(), torch.rand(1).item()))  # noqa: NPY002, S311 - what plans use

    assert draws[0] == draws[1]


def test_gradient_descent_on_the_full_batch_equals_numpy():
    plan, points, _ = trained(
        loader=parts(batch_size=None).train, num_updates=20, optimizer_args={"lr": 0.5}, log_interval=1
    )

    start = prepared()
    weight, bias = start.model().weight.detach().numpy().astype(float)[0], start.model().bias.item()
    for point in points:
        logits = DATA @ weight + bias
        loss = np.mean(np.logaddexp(0, logits) - TARGET[:, 0] * logits)
        assert point.loss == pytest.approx(loss, abs=1e-6)
        error = 1 / (1 + np.exp(-logits)) - TARGET[:, 0]
        weight, bias = weight - 0.5 * error @ DATA / 10, bias - 0.5 * error.mean()
    np.testing.assert_allclose(plan.model().weight.detach().numpy()[0], weight, atol=1e-6)


def test_the_proximal_term_pulls_towards_the_start_as_its_equation_says():
    lr, mu = 0.1, 2.0
    plan, _, _ = trained(
        loader=parts(batch_size=None).train, num_updates=3, fedprox_mu=mu, optimizer_args={"lr": lr}
    )

    start = prepared()
    w0 = torch.cat([start.model().weight.detach()[0], start.model().bias.detach()]).double().numpy()
    design = np.hstack([DATA, np.ones((10, 1))])
    w = w0
    for _ in range(3):
        error = 1 / (1 + np.exp(-design @ w)) - TARGET[:, 0]
        w = w - lr * (design.T @ error / 10 + mu * (w - w0))
    np.testing.assert_allclose(plan.model().weight.detach().numpy()[0], w[:3], atol=1e-6)


def test_a_loss_that_is_not_finite_is_reported_as_none_and_training_goes_on():
    class Diverging(LogisticPlan):
        def training_step(self, data, target):
            return super().training_step(data, target) * float("nan")

    _, points, seen = trained(Diverging, num_updates=3, log_interval=1)

    assert [point.loss for point in points] == [None] * 3
    assert seen == 10


@pytest.mark.parametrize("result", [1.0, torch.ones(()), torch.ones(2, requires_grad=True), None], ids=str)
def test_a_training_step_must_return_a_loss(result):
    class Wrong(LogisticPlan):
        def training_step(self, data, target):
            return result

    with pytest.raises(PlanContractError, match=r"Wrong\.training_step must return a scalar tensor"):
        trained(Wrong)


def test_a_plan_without_a_batch_to_train_on_is_told_so():
    for loader in (parts(batch_size=20, drop_last=True).train, parts(DATA[:0], TARGET[:0]).train):
        with pytest.raises(PlanContractError, match="gives no batch out of"):
            trained(loader=loader)

    assert trained(loader=parts(DATA[:0], TARGET[:0]).train, num_updates=0)[2] == 0


FEDBIOMED = """
import torch
from torch import nn
from common.training_plans import TorchTrainingPlan
from common.data import DataManager


class Plan(TorchTrainingPlan):
    class Net(nn.Module):
        def __init__(self, model_args):
            super().__init__()
            self.layer = nn.Linear(model_args["features"], 1)

        def forward(self, x):
            return self.layer(x)

    def init_model({init_model}):
        args = self.model_args()
        return self.Net(args)

    def init_optimizer({init_optimizer}):
        return torch.optim.Adam(self.model().parameters(), lr=self.optimizer_args()["lr"])

    def training_step(self, data, target):
        {step}

    def training_data(self, batch_size=48):
        return DataManager([], batch_size=batch_size)
"""


def fedbiomed(
    init_model="self, model_args",
    init_optimizer="self, optimizer_args",
    step="return self.model()(data).mean()",
):
    return loaded(FEDBIOMED.format(init_model=init_model, init_optimizer=init_optimizer, step=step))


@pytest.mark.parametrize(
    "signature",
    ["self", "self, {}_args", "self, arguments", "self, {}_args=None", "self, size=2, *, {}_args"],
)
def test_methods_take_their_arguments_or_none(signature):
    plan = prepared(
        fedbiomed(signature.format("model"), signature.format("optimizer")),
        model_args={"features": 3},
        optimizer_args={"lr": 0.25},
    )

    assert plan.model().layer.in_features == 3
    assert plan.start().param_groups[0]["lr"] == 0.25
    assert plan.optimizer() is plan.optimizer()


def test_accessors_tell_what_the_researcher_and_the_node_said():
    plan = prepared(
        fedbiomed(), model_args={"features": 3}, loader_args={"batch_size": 4}, optimizer_args={"lr": 1}
    )

    assert (plan.node_id(), plan.round()) == ("", 0)
    with pytest.raises(PlanContractError, match="known at nodes only"):
        _ = plan.dataset_path

    plan.enter(node_id="north", round_=2, training_args=plan._training_args)

    assert (plan.node_id(), plan.round()) == ("north", 2)
    assert plan.model_args() == {"features": 3}
    assert plan.loader_args() == {"batch_size": 4}
    assert plan.training_args()["num_updates"] == 1
    assert plan.init_dependencies() == []
    assert plan.call(plan.training_data, **plan.loader_args())._loader_args["batch_size"] == 4


def test_a_mistake_in_a_plan_is_told_by_type_and_line_without_its_text():
    plan = fedbiomed(step='secret = "patient 4711"; raise KeyError(secret)')
    line = FEDBIOMED[: FEDBIOMED.index("{step}")].count("\n") + 1

    with pytest.raises(PlanFailedError) as raised:
        trained(plan, model_args={"features": 3}, optimizer_args={"lr": 0.1})

    assert raised.value.facts == {"error_type": "KeyError", "line": line, "where": "Plan.training_step"}
    assert "4711" not in raised.value.public_text


def test_an_exception_class_that_the_plan_made_up_does_not_leave_by_name():
    step = 'raise type("Patient4711", (ValueError,), {{"__module__": "torch"}})'

    with pytest.raises(PlanFailedError, match="ValueError at line"):
        trained(
            fedbiomed(step=step.replace("{{", "{").replace("}}", "}")),
            model_args={"features": 3},
            optimizer_args={"lr": 1},
        )


def test_an_error_inside_a_library_is_laid_at_the_line_of_the_plan_that_called_it():
    with pytest.raises(PlanFailedError, match=r"RuntimeError at line \d+ of the plan, in Plan.Net.forward"):
        trained(fedbiomed(), model_args={"features": 7}, optimizer_args={"lr": 0.1})


def test_arguments_that_the_default_optimizer_does_not_know_are_laid_at_init_optimizer():
    class Default(LogisticPlan):
        init_optimizer = LogisticPlan.__mro__[1].init_optimizer

    assert isinstance(prepared(Default).start(), torch.optim.Adam)
    with pytest.raises(PlanContractError, match=r"Default\.init_optimizer led to TypeError"):
        prepared(Default, optimizer_args={"speed": 3}).start()


@pytest.mark.parametrize(
    ("method", "result", "problem"),
    [
        ("init_model", 3, "returned int, not a torch.nn.Module"),
        (
            "init_model",
            nn.ParameterDict({"w": torch.zeros(2, dtype=torch.complex64)}),
            "'w' is not a dense tensor",
        ),
        ("init_optimizer", None, "returned NoneType, not an optimizer"),
        ("postprocess", None, "must return tensors by name"),
        ("postprocess", {"weight": [1.0]}, "must return tensors by name"),
    ],
)
def test_a_method_that_returns_the_wrong_thing_is_named(method, result, problem):
    plan = type("Wrong", (LogisticPlan,), {method: lambda self, given: result})

    with pytest.raises(PlanContractError, match=f"Wrong.*{problem}"):
        trained(plan)[0].after_training_params()


def test_postprocess_changes_what_is_sent_and_must_fit_the_model():
    class Scaled(LogisticPlan):
        def postprocess(self, params):
            return {name: value * 2 for name, value in params.items()}

    class Cut(LogisticPlan):
        def postprocess(self, params):
            return {"weight": params["weight"][:, :1]}

    plan = prepared(Scaled)

    assert plan.after_training_params()["weight"].tolist() == (plan.model().weight * 2).tolist()
    with pytest.raises(
        ModelMismatchError, match=r"postprocess.*missing bias; weight is F32 \[1, 1\] and not F32 \[1, 3\]"
    ):
        prepared(Cut).after_training_params()


def batch_norm(self):
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))


class Normed(LogisticPlan):
    """A model with buffers, one of them an integer."""

    init_model = batch_norm


def test_a_model_goes_to_a_file_and_back_with_its_buffers(tmp_path):
    plan, _, _ = trained(Normed, num_updates=3)
    saved = plan.export_model(tmp_path / "model.safetensors")

    other = prepared(Normed, random_seed=8)
    other.import_model(str(tmp_path / "model.safetensors"))

    assert load_tensors(tmp_path / "model.safetensors")["1.num_batches_tracked"] == 3
    assert other.export_model(tmp_path / "again.safetensors") == saved
    other.set_model_params(prepared(Normed).get_model_params())
    assert other.export_model(tmp_path / "again.safetensors") != saved


def test_parameters_can_be_had_without_buffers_or_frozen_ones():
    plan = prepared(Normed)
    plan.model()[0].weight.requires_grad = False

    every = set(plan.get_model_params())

    buffers = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert every - set(plan.get_model_params(exclude_buffers=True)) == buffers
    assert every - set(plan.get_model_params(only_trainable=True)) == {"0.weight"}


def test_weights_of_another_model_are_refused_by_name_and_nothing_changes(tmp_path):
    plan = prepared(Normed)
    before = plan.model()[0].bias.tolist()
    path = tmp_path / "model.safetensors"
    tensors = {name: value + 1 for name, value in plan.get_model_params().items()}
    tensors["0.weight"] = tensors["0.weight"].double()
    tensors["new"] = tensors.pop("2.bias")
    save_tensors(path, tensors)

    with pytest.raises(ModelMismatchError) as raised:
        plan.import_model(path)

    assert raised.value.facts == {
        "where": "the model file",
        "problem": "missing 2.bias; unexpected new; 0.weight is F64 [2, 3] and not F32 [2, 3]",
    }
    assert plan.model()[0].bias.tolist() == before
    with pytest.raises(ModelMismatchError, match="the parameters: missing"):
        plan.set_model_params({})


def test_a_long_list_of_differences_is_cut(tmp_path):
    plan = prepared()

    with pytest.raises(ModelMismatchError, match="unexpected p0, p1, p2, p3, p4 and 3 more"):
        plan.set_model_params(plan.get_model_params() | {f"p{i}": torch.ones(1) for i in range(8)})


def test_a_damaged_model_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")

    with pytest.raises(InvalidTensorsError):
        prepared().import_model(tmp_path / "model.safetensors")


def test_a_plan_that_was_not_prepared_says_so():
    with pytest.raises(PlanContractError, match="model was not built yet"):
        LogisticPlan().model()
    with pytest.raises(PlanContractError, match="optimizer was not built yet"):
        LogisticPlan().optimizer()


def validated(plan, loader=None, **args):
    made = prepared(plan, **args)
    return made.validate(parts(test_ratio=1.0).test if loader is None else loader).metrics


def test_default_validation_gives_loss_and_accuracy_over_the_whole_part():
    plan = prepared()
    scores = plan.model()(torch.tensor(DATA, dtype=torch.float32)).detach().double().numpy()
    loss = np.mean(np.logaddexp(0, scores) - TARGET * scores)

    small = DataManager(Pairs(DATA, TARGET)).split(test_ratio=1.0, seed=1, test_batch_size=3).test
    for loader in (parts(test_ratio=1.0).test, small):
        assert validated(LogisticPlan, loader) == {
            "loss": pytest.approx(loss, abs=1e-6),
            "ACCURACY": pytest.approx(np.mean((scores > 0) == TARGET)),
        }


def test_validation_neither_trains_nor_draws_from_the_generators():
    plan = prepared(Normed)
    before = {name: value.clone() for name, value in plan.get_model_params().items()}
    state = torch.get_rng_state()

    plan.validate(parts(test_ratio=1.0).test)

    assert torch.equal(torch.get_rng_state(), state)
    for name, value in plan.get_model_params().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("result", "metrics"),
    [
        (2.5, {"Custom": 2.5}),
        (torch.tensor([3]), {"Custom": 3.0}),
        ([1, np.float32(2)], {"Custom_1": 1.0, "Custom_2": 2.0}),
        ({"auc": True, "nan": float("nan"), "inf": float("inf")}, {"auc": 1.0, "nan": None, "inf": None}),
    ],
    ids=["number", "tensor", "list", "dict"],
)
def test_a_testing_step_gives_metrics_of_its_own(result, metrics):
    plan = type("Tested", (LogisticPlan,), {"testing_step": lambda self, data, target: result})

    assert validated(plan) == metrics


def test_metrics_of_a_testing_step_are_weighted_by_the_samples_of_each_batch():
    class Sizes(LogisticPlan):
        def testing_step(self, data, target):
            return {"size": len(data)}

    loader = DataManager(Pairs(DATA, TARGET)).split(test_ratio=1.0, seed=1, test_batch_size=4).test

    assert validated(Sizes, loader) == {"size": (4 * 4 + 4 * 4 + 2 * 2) / 10}


@pytest.mark.parametrize(
    "result", ["text", None, torch.ones(2), {"a": "b"}, {3: 1.0}, {"": 1.0}, {"x" * 201: 1.0}], ids=repr
)
def test_a_testing_step_must_return_numbers_with_names(result):
    plan = type("Tested", (LogisticPlan,), {"testing_step": lambda self, data, target: result})

    with pytest.raises(PlanContractError, match=r"Tested\.testing_step must"):
        validated(plan)


class Linear(LogisticPlan):
    """A regression."""

    def training_step(self, data, target):
        return nn.functional.mse_loss(self.model()(data), target)


def test_targets_that_are_not_whole_numbers_are_validated_as_a_regression():
    target = (DATA @ [1.0, 2.0, 3.0])[:, None].astype(np.float32)
    loader = parts(target=target, test_ratio=1.0).test

    metrics = validated(Linear, loader)

    assert metrics.keys() == {"loss", "MEAN_SQUARE_ERROR"}
    assert metrics["loss"] == pytest.approx(metrics["MEAN_SQUARE_ERROR"], rel=1e-6)


def test_outputs_that_do_not_fit_the_targets_are_told():
    class Wide(LogisticPlan):
        def predict(self, data):
            return torch.zeros(len(data), 2, 5)

    with pytest.raises(
        PlanContractError, match=r"predict gives shape \[10, 2, 5\] for targets of shape \[10, 1\]"
    ):
        validated(Wide)


def test_predictions_must_be_tensors():
    class Listed(LogisticPlan):
        def predict(self, data):
            return [1.0]

    with pytest.raises(PlanContractError, match="must be tensors"):
        validated(Listed)


def test_unknown_arguments_of_a_metric_are_refused():
    with pytest.raises(InvalidArgumentsError, match="average"):
        validated(LogisticPlan, test_metric_args={"averaging": "macro"})


@pytest.mark.parametrize("batch", [torch.ones(2), [torch.ones(2)] * 3], ids=["one", "three"])
def test_batches_must_be_pairs(batch):
    class Odd:
        samples = 2

        def __len__(self):
            return 1

        def __iter__(self):
            return iter([batch])

    with pytest.raises(PlanContractError, match="pairs of input and target"):
        trained(loader=Odd())


def test_samples_are_counted_in_nested_batches():
    class Nested(LogisticPlan):
        def training_step(self, data, target):
            return super().training_step(data["image"][0], target)

    class Loader:
        samples = 4

        def __len__(self):
            return 1

        def __iter__(self):
            yield {"image": [torch.ones(4, 3), ["a"] * 4]}, torch.ones(4, 1)

    assert trained(Nested, Loader(), num_updates=2)[2] == 8


def test_training_args_name_every_mistake_at_once():
    with pytest.raises(InvalidArgumentsError, match=r"(?s)epochs.*banana"):
        TrainingArgs.of({"epochs": -1, "banana": 3})
