"""Modules and regularizers: the numbers of their papers, the same on numpy arrays and torch tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import InvalidSettingsError
from common.optimizers import (
    AdaGradModule,
    AdamModule,
    EWMAModule,
    FedProxRegularizer,
    LassoRegularizer,
    MomentumModule,
    Optimizer,
    RidgeRegularizer,
    RMSPropModule,
    YogiModule,
    optimizer_config,
    optimizer_of,
)
from common.training_plans.stepping import TorchStepper

STEPS = 12
MODULES = [
    MomentumModule(0.9),
    MomentumModule(0.8, nesterov=True),
    EWMAModule(0.7),
    AdaGradModule(),
    RMSPropModule(),
    AdamModule(),
    YogiModule(),
]


def named(module):
    return f"{type(module).__name__}-{module}"


def gradients(seed=5, size=9):
    return np.random.default_rng(seed).normal(size=(STEPS, size))


def walk(optimizer, grads, start=None):
    """Return the parameters after each step."""
    now = np.zeros(grads.shape[1]) if start is None else start
    state = {name: np.full_like(now, first) for name, first in optimizer.memory.items()}
    path = []
    for step, gradient in enumerate(grads, start=1):
        now = optimizer.stepped(now, gradient, np.zeros_like(now) if start is None else start, state, step)
        path.append(now)
    return np.array(path)


def torch_walk(make, grads):
    parameter = torch.zeros(grads.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = make([parameter])
    path = []
    for gradient in grads:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Optimizer(0.1), lambda p: torch.optim.SGD(p, 0.1)),
        (Optimizer(0.1, modules=[MomentumModule(0.9)]), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        (
            Optimizer(0.1, modules=[MomentumModule(0.9, nesterov=True)]),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        ),
        (
            Optimizer(0.1, modules=[AdamModule(beta_1=0.9, beta_2=0.999, eps=1e-8)]),
            lambda p: torch.optim.Adam(p, 0.1, betas=(0.9, 0.999), eps=1e-8),
        ),
        (
            Optimizer(0.1, modules=[AdaGradModule(eps=1e-10)]),
            lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-10),
        ),
        (
            Optimizer(0.1, modules=[RMSPropModule(beta=0.99, eps=1e-8)]),
            lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.99, eps=1e-8),
        ),
        (
            Optimizer(0.1, regularizers=[RidgeRegularizer(0.3)]),
            lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.3),
        ),
    ],
    ids=["SGD", "momentum", "nesterov", "Adam", "Adagrad", "RMSprop", "ridge"],
)
def test_it_walks_as_torch_does(ours, theirs):
    np.testing.assert_allclose(torch_walk(theirs, gradients()), walk(ours, gradients()), rtol=1e-9)


@pytest.mark.parametrize("kind", ["adam", "yogi", "adagrad"])
def test_it_walks_by_the_algorithm_of_adaptive_federated_optimization(kind):
    """Reddi et al., ICLR 2021, algorithm 2, with v begun at tau squared and no correction of the bias."""
    beta_1, beta_2, tau, lr = 0.9, 0.99, 1e-3, 0.05
    settings = {"beta_1": beta_1, "beta_2": beta_2, "eps": tau, "bias_correction": False, "initial": tau**2}
    modules = {
        "adam": [AdamModule(**settings)],
        "yogi": [YogiModule(**settings)],
        "adagrad": [AdaGradModule(eps=tau, initial=tau**2)],
    }
    changes = -gradients()
    x, m, v = np.zeros(9), np.zeros(9), np.full(9, tau**2)
    expected = []
    for change in changes:
        if kind == "adagrad":
            m = change  # no mean of the gradients: put an EWMAModule last for the paper's
            v = v + change**2
        else:
            m = beta_1 * m + (1 - beta_1) * change
            if kind == "adam":
                v = beta_2 * v + (1 - beta_2) * change**2
            else:
                v = v - (1 - beta_2) * change**2 * np.sign(v - change**2)
        x = x + lr * m / (np.sqrt(v) + tau)
        expected.append(x)

    np.testing.assert_allclose(expected, walk(Optimizer(lr, modules=modules[kind]), -changes), rtol=1e-10)


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_torch_tensors_give_the_same_numbers_as_arrays(module):
    optimizer = Optimizer(
        0.1, decay=0.01, modules=[module], regularizers=[LassoRegularizer(0.1), FedProxRegularizer(0.2)]
    )
    start = torch.linspace(-1, 1, 9, dtype=torch.float64)
    now, state = start, {name: torch.full_like(start, first) for name, first in optimizer.memory.items()}
    for step, gradient in enumerate(gradients(), start=1):
        now = optimizer.stepped(now, torch.from_numpy(gradient), start, state, step)

    np.testing.assert_allclose(walk(optimizer, gradients(), start.numpy())[-1], now.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("regularizer", "loss"),
    [
        (RidgeRegularizer(0.3), lambda w, start: 0.15 * (w**2).sum()),
        (LassoRegularizer(0.3), lambda w, start: 0.3 * w.abs().sum()),
        (FedProxRegularizer(0.3), lambda w, start: 0.15 * ((w - start) ** 2).sum()),
    ],
    ids=["ridge", "lasso", "proximal"],
)
def test_a_regularizer_is_the_gradient_of_its_term(regularizer, loss):
    start = torch.linspace(-2, 1, 7, dtype=torch.float64)
    w = torch.linspace(-1, 1, 7, dtype=torch.float64, requires_grad=True)
    loss(w, start).backward()

    np.testing.assert_allclose(
        w.grad.numpy(), regularizer.gradient(w.detach().numpy(), start.numpy()), rtol=1e-12, atol=1e-12
    )


def test_modules_are_applied_one_after_the_other():
    both = walk(Optimizer(0.1, modules=[EWMAModule(0.5), MomentumModule(0.5)]), gradients())
    means = np.zeros((STEPS, 9))
    mean = np.zeros(9)
    for step, gradient in enumerate(gradients()):
        mean = 0.5 * mean + 0.5 * gradient
        means[step] = mean

    np.testing.assert_allclose(walk(Optimizer(0.1, modules=[MomentumModule(0.5)]), means), both, rtol=1e-12)


def test_decay_takes_a_share_of_each_parameter_whatever_the_learning_rate():
    start = np.array([1.0, -2.0])

    np.testing.assert_allclose([[0.9, -1.8]], walk(Optimizer(0.5, decay=0.1), np.zeros((1, 2)), start))


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_it_comes_back_from_its_settings(module):
    optimizer = Optimizer(0.1, decay=0.2, modules=[module], regularizers=[RidgeRegularizer(0.5)])

    assert optimizer == optimizer_of(optimizer_config(optimizer))


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (Optimizer, {"lr": 0.0}),
        (Optimizer, {"lr": 1.0, "decay": 1.0}),
        (MomentumModule, {"beta": 1.0}),
        (AdamModule, {"beta_2": -0.1}),
        (AdamModule, {"eps": -1.0}),
        (AdaGradModule, {"initial": -1.0}),
        (RidgeRegularizer, {"alpha": -1.0}),
        (optimizer_of, {"config": {"lr": 1.0, "modules": [{"name": "Adamant"}]}}),
        (optimizer_of, {"config": {"lr": 1.0, "speed": 3}}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_setting_that_makes_no_sense_is_refused(make, settings):
    with pytest.raises(InvalidSettingsError):
        make(**settings)


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_a_plan_may_use_it_for_its_model(module):
    optimizer = Optimizer(0.1, modules=[module], regularizers=[FedProxRegularizer(0.5)])
    start = np.linspace(-1, 1, 9)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    stepper = TorchStepper([parameter], optimizer)
    for gradient in gradients():
        parameter.grad = torch.from_numpy(gradient)
        stepper.step()

    np.testing.assert_allclose(
        walk(optimizer, gradients(), start)[-1], parameter.detach().numpy(), rtol=1e-12
    )


def test_a_schedule_changes_its_learning_rate():
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    stepper = TorchStepper([parameter], Optimizer(1.0))
    schedule = torch.optim.lr_scheduler.StepLR(stepper, step_size=1, gamma=0.1)
    for _ in range(3):
        parameter.grad = torch.ones(1, dtype=torch.float64)
        stepper.step()
        schedule.step()

    np.testing.assert_allclose(-1.11, parameter.item())


def test_what_has_no_gradient_stays():
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    idle = torch.nn.Parameter(torch.ones(2))
    TorchStepper([frozen, idle], Optimizer(1.0, decay=0.5)).step()

    assert [1.0] * 4 == [*frozen.tolist(), *idle.tolist()]
