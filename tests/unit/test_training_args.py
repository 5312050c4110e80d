"""Every training argument does what its line says, and mistakes are told together."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn

from common.data import DataManager
from common.errors import InvalidArgumentsError
from common.optimizers import Optimizer
from common.schedule import LearningRateSchedule
from common.training_args import TrainingArgs
from deploy.reference import attribute_docs, reference_pages
from tests.support.plans import LogisticPlan, prepared

HOWTO = Path(__file__).parents[2] / "docs" / "how-to" / "training-arguments.md"
SCHEDULE = TypeAdapter(LearningRateSchedule)
FEDBIOMED = {
    *("optimizer_args", "loader_args", "epochs", "num_updates", "batch_maxnum", "dry_run", "test_ratio"),
    *("test_batch_size", "test_on_local_updates", "test_on_global_updates", "shuffle_testing_dataset"),
    *("test_metric", "test_metric_args", "log_interval", "fedprox_mu", "use_gpu", "share_persistent_buffers"),
    "random_seed",
}


class Rows:
    """Ten rows of three numbers."""

    data = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.data[index], np.float32([self.data[index].sum() > 0])


def loader(size=10):
    return DataManager(Rows()).split(test_ratio=0, seed=1, loader_args={"batch_size": size}).train


def weights(plan):
    return torch.cat([value.detach().flatten() for value in plan.model().parameters()])


def step(plan=LogisticPlan, round_=1, **args):
    """Return what one update on all rows changes, at a learning rate of 1."""
    made = prepared(plan, optimizer_args={"lr": 1.0}, **args)
    made.enter(node_id="north", round_=round_, training_args=made._training_args)
    before = weights(made)
    made.train(loader(), lambda point: None)
    return weights(made) - before


# Keys


def test_every_key_of_fedbiomed_is_there():
    assert set() == FEDBIOMED - TrainingArgs.model_fields.keys()


def test_the_how_to_lists_every_key_with_its_default():
    def defaults(page):
        return re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", page.partition("\n## ")[0], re.MULTILINE)

    assert sorted(defaults(reference_pages()["training-args.md"])) == sorted(defaults(HOWTO.read_text()))
    assert len(TrainingArgs.model_fields) == len(defaults(HOWTO.read_text()))
    assert TrainingArgs.model_fields.keys() == attribute_docs(TrainingArgs).keys()


def test_all_mistakes_are_told_at_once():
    wrong = {
        "num_updates": -1,
        "clip_grad_norm": 0,
        "clip_grad_value": float("nan"),
        "autocast": "int8",
        "lr_schedule": {"kind": "cosine", "rounds": 0, "speed": 2},
        "use_gpu": "sometimes",
        "banana": 1,
    }

    with pytest.raises(InvalidArgumentsError) as raised:
        TrainingArgs.of(wrong)

    told = raised.value.facts["problems"]
    named = [
        "num_updates",
        "clip_grad_norm",
        "clip_grad_value",
        "autocast",
        "rounds",
        "speed",
        "use_gpu",
        "banana",
    ]
    assert [] == [name for name in named if name not in told]


@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "linear"},
        {"kind": "constant"},
        {"kind": "constant", "warmup_rounds": 0},
        {"kind": "step"},
        {"kind": "step", "every": 2, "gamma": 0},
        {"kind": "exponential", "gamma": 1.5},
        {"kind": "cosine", "rounds": 4, "floor": 0},
        {"gamma": 0.5},
    ],
    ids=str,
)
def test_a_schedule_that_means_nothing_is_refused(schedule):
    with pytest.raises(InvalidArgumentsError, match="lr_schedule"):
        TrainingArgs.of({"epochs": 1, "lr_schedule": schedule})


def test_arguments_survive_the_wire():
    args = TrainingArgs.of(
        {
            "epochs": 2.0,
            "lr_schedule": {"kind": "step", "every": 3, "warmup_rounds": 2},
            "autocast": "bfloat16",
        }
    )

    assert args == TrainingArgs.model_validate_json(args.model_dump_json())
    assert 2 == args.epochs


# Schedules


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ({"kind": "constant", "warmup_rounds": 3}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"kind": "step", "every": 2, "gamma": 0.1}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"kind": "step", "every": 2, "gamma": 0.5, "warmup_rounds": 1}, [0.5, 1, 1, 0.5, 0.5, 0.25]),
        ({"kind": "exponential", "gamma": 0.5}, [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        ({"kind": "cosine", "rounds": 2, "floor": 0.2}, [1, 0.6, 0.2, 0.2, 0.2, 0.2]),
    ],
    ids=["constant", "step", "step after warming up", "exponential", "cosine"],
)
def test_a_schedule_follows_its_formula(schedule, factors):
    made = SCHEDULE.validate_python(schedule)

    assert factors == pytest.approx([made.factor(round_) for round_ in range(1, 7)])


@given(
    st.sampled_from(
        [{"kind": "step", "every": 3}, {"kind": "exponential", "gamma": 0.9}, {"kind": "cosine", "rounds": 7}]
    ),
    st.integers(0, 5),
    st.integers(0, 60),
)
def test_the_rate_rises_while_warming_up_and_never_again(schedule, warmup, round_):
    made = SCHEDULE.validate_python(schedule | {"warmup_rounds": warmup})

    now, later = made.factor(round_), made.factor(round_ + 1)

    assert 0 < now <= 1
    assert (now <= later) if round_ <= warmup else (now >= later)


def test_the_learning_rate_of_a_round_is_that_of_the_plan_times_the_factor():
    schedule = {"kind": "exponential", "gamma": 0.5}

    torch.testing.assert_close(step() / 4, step(round_=3, lr_schedule=schedule))


def test_each_layer_keeps_its_share_of_the_rate():
    class Layered(LogisticPlan):
        def init_optimizer(self, optimizer_args):
            model = self.model()
            groups = [{"params": [model.weight], "lr": 1.0}, {"params": [model.bias], "lr": 0.1}]
            return torch.optim.SGD(groups)

    plain, halved = step(Layered), step(Layered, round_=2, lr_schedule={"kind": "exponential", "gamma": 0.5})

    torch.testing.assert_close(plain / 2, halved)
    torch.testing.assert_close(plain[3], step()[3] * 0.1)


def test_an_optimizer_of_modules_follows_the_schedule_and_the_bounds():
    class Modular(LogisticPlan):
        def init_optimizer(self, optimizer_args):
            return Optimizer(lr=1.0)

    args = {"lr_schedule": {"kind": "exponential", "gamma": 0.5}, "clip_grad_norm": 0.01, "round_": 2}

    assert step(Modular, **args).norm().item() == pytest.approx(0.005, rel=1e-4)
    torch.testing.assert_close(step(**args), step(Modular, **args))


# Clipping


def test_a_long_gradient_is_shortened_and_a_short_one_stays():
    plain = step()
    norm = plain.norm().item()

    torch.testing.assert_close(plain / norm * 0.01, step(clip_grad_norm=0.01))
    torch.testing.assert_close(plain, step(clip_grad_norm=norm * 1.01))


def test_each_number_of_the_gradient_is_cut_before_its_length_is():
    plain = step()
    bound = plain.abs().median().item()
    cut = plain.clamp(-bound, bound)

    torch.testing.assert_close(cut, step(clip_grad_value=bound))
    torch.testing.assert_close(cut / cut.norm() * 0.01, step(clip_grad_value=bound, clip_grad_norm=0.01))


# Mixed precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_losses_are_computed_in_mixed_precision_and_parameters_stay_as_they_are(dtype):
    seen = set()

    class Noting(LogisticPlan):
        def training_step(self, data, target):
            output = self.model()(data)
            seen.add(output.dtype)
            return nn.functional.binary_cross_entropy_with_logits(output.float(), target)

    change = step(Noting, autocast=dtype)

    assert {getattr(torch, dtype)} == seen
    assert torch.float32 == change.dtype
    torch.testing.assert_close(step(), change, atol=5e-3, rtol=5e-2)
    clipped = step(Noting, autocast=dtype, clip_grad_norm=0.01)
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_metrics_are_computed_in_the_same_precision():
    seen = set()

    class Tested(LogisticPlan):
        def testing_step(self, data, target):
            seen.add(self.model()(data).dtype)
            return 1.0

    prepared(Tested, autocast="bfloat16").validate(loader())

    assert {torch.bfloat16} == seen


def test_a_scaled_gradient_that_is_not_finite_is_left_out():
    class Diverging(LogisticPlan):
        def training_step(self, data, target):
            return super().training_step(data, target) * float("inf")

    assert torch.equal(torch.zeros(4), step(Diverging, autocast="float16"))
