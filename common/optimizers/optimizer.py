"""Compose modules and regularizers into an optimizer, and write it as plain settings."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from common.errors import InvalidSettingsError
from common.optimizers.modules import (
    AdaGradModule,
    AdamModule,
    EWMAModule,
    Module,
    MomentumModule,
    RMSPropModule,
    YogiModule,
)
from common.optimizers.regularizers import FedProxRegularizer, LassoRegularizer, Regularizer, RidgeRegularizer
from common.registry import Registry

_MODULES: Final[Registry[Module]] = Registry(
    "module", (AdaGradModule, AdamModule, EWMAModule, MomentumModule, RMSPropModule, YogiModule)
)
_REGULARIZERS: Final[Registry[Regularizer]] = Registry(
    "regularizer", (FedProxRegularizer, LassoRegularizer, RidgeRegularizer)
)


@dataclass(frozen=True, slots=True)
class Optimizer:
    """A way from gradients to steps: regularizers add to the gradient, modules change it one after the other, then w = w - lr g - decay w.

    As `agg_optimizer` of an experiment it takes the place of the plain mean: the gradient is the global model minus what the aggregator
    made of the updates (Reddi et al., ICLR 2021, algorithm 2), so an `Optimizer(lr=1.0)` changes nothing. In a plan, return it from
    `init_optimizer`.

    Attributes:
        lr: Learning rate, greater than 0.
        decay: Share of each parameter that is taken away in each step, whatever the learning rate.
        modules: In the order in which they are applied.
        regularizers: All see the same parameters.

    Raises:
        InvalidSettingsError: If a number is out of range.
    """

    lr: float
    decay: float = 0.0
    modules: Sequence[Module] = ()
    regularizers: Sequence[Regularizer] = ()

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.lr < float("inf"):
            problems.append(f"  lr: {self.lr!r} is not a number greater than 0")
        if not 0 <= self.decay < 1:
            problems.append(f"  decay: {self.decay!r} is not at least 0 and less than 1")
        if problems:
            raise InvalidSettingsError(source="Optimizer", problems="\n".join(problems))
        object.__setattr__(self, "modules", tuple(self.modules))
        object.__setattr__(self, "regularizers", tuple(self.regularizers))

    @property
    def memory(self) -> dict[str, float]:
        """Return the name of each array that must be remembered, with the number that it begins with."""
        return {
            f"{position}.{name}": module.start(name)
            for position, module in enumerate(self.modules)
            for name in module.memory
        }

    def stepped(
        self,
        parameters: Any,
        gradient: Any,
        start: Any,
        state: MutableMapping[str, Any],
        step: int,
        *,
        lr: float | None = None,
    ) -> Any:
        """Return the parameters after one step, and bring the state up to date.

        Args:
            parameters: Array of floats, numpy's or torch's.
            gradient: Of the same shape.
            start: The parameters that the round started from.
            state: Arrays of the same shape by the names in `memory`; entries are replaced.
            step: Number of this step, from 1.
            lr: Learning rate of this step, if it is another one.
        """
        for regularizer in self.regularizers:
            gradient = gradient + regularizer.gradient(parameters, start)
        for position, module in enumerate(self.modules):
            own = {name: state[f"{position}.{name}"] for name in module.memory}
            gradient = module.apply(gradient, own, step)
            state.update({f"{position}.{name}": value for name, value in own.items()})
        rate = self.lr if lr is None else lr
        return parameters - rate * gradient - self.decay * parameters


def optimizer_config(optimizer: Optimizer | None) -> dict[str, Any] | None:
    """Return an optimizer as plain settings; none stays none."""
    if optimizer is None:
        return None
    return {
        "lr": optimizer.lr,
        "decay": optimizer.decay,
        "modules": [_MODULES.config(module) for module in optimizer.modules],
        "regularizers": [_REGULARIZERS.config(regularizer) for regularizer in optimizer.regularizers],
    }


def optimizer_of(config: Mapping[str, Any] | None) -> Optimizer | None:
    """Return the optimizer that plain settings describe; none stays none.

    Raises:
        InvalidSettingsError: If there is no such module or regularizer, or a setting is wrong.
    """
    if config is None:
        return None
    settings = dict(config)
    modules = [_MODULES.build(one) for one in settings.pop("modules", ())]
    regularizers = [_REGULARIZERS.build(one) for one in settings.pop("regularizers", ())]
    try:
        return Optimizer(**settings, modules=modules, regularizers=regularizers)
    except TypeError as error:
        raise InvalidSettingsError(source="Optimizer", problems=f"  {error}") from error
