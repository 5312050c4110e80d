"""Turn gradients into steps, one number at a time.

The formulas use nothing but arithmetic, so that the same module works on numpy arrays at the researcher and on torch tensors in a plan.
Each is a settings object without state; what it must remember is in a mapping that belongs to whoever calls it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from common.errors import InvalidSettingsError

State = MutableMapping[str, Any]
"""What a module remembers of some numbers: arrays of their shape, by the names in its `memory`."""


class Module(Protocol):
    """One step of the way from a gradient to what is subtracted from the parameters."""

    memory: ClassVar[tuple[str, ...]]
    """Names of the arrays that it remembers."""

    def start(self, name: str) -> float:
        """Return the number that an array begins with."""
        ...

    def apply(self, gradient: Any, state: State, step: int) -> Any:
        """Return what takes the place of the gradient, and bring the state up to date.

        Args:
            gradient: Array of floats.
            state: What was remembered; entries are replaced, never changed in place.
            step: Number of this step, from 1.
        """
        ...


@dataclass(frozen=True, slots=True)
class MomentumModule:
    """Add momentum: u = beta u + g, or with `nesterov` g + beta u of that (Sutskever et al., ICML 2013).

    On the researcher's side this is FedAvgM (Hsu et al., 2019). Raises InvalidSettingsError if beta is not in [0, 1).
    """

    memory: ClassVar[tuple[str, ...]] = ("velocity",)

    beta: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check_share(self, "beta")

    def start(self, name: str) -> float:
        """Begin with nothing."""
        del name
        return 0.0

    def apply(self, gradient: Any, state: State, step: int) -> Any:
        """See `Module.apply`."""
        del step
        state["velocity"] = velocity = self.beta * state["velocity"] + gradient
        return gradient + self.beta * velocity if self.nesterov else velocity


@dataclass(frozen=True, slots=True)
class EWMAModule:
    """Take the moving average: m = beta m + (1 - beta) g. Raises InvalidSettingsError if beta is not in [0, 1)."""

    memory: ClassVar[tuple[str, ...]] = ("mean",)

    beta: float = 0.9

    def __post_init__(self) -> None:
        _check_share(self, "beta")

    def start(self, name: str) -> float:
        """Begin with nothing."""
        del name
        return 0.0

    def apply(self, gradient: Any, state: State, step: int) -> Any:
        """See `Module.apply`."""
        del step
        state["mean"] = mean = self.beta * state["mean"] + (1 - self.beta) * gradient
        return mean


@dataclass(frozen=True, slots=True)
class AdaGradModule:
    """Divide by the root of the sum of squares: v = v + g^2, g / (sqrt(v) + eps) (Duchi et al., JMLR 2011).

    FedAdagrad of Reddi et al. (ICLR 2021, algorithm 2) is this behind an `EWMAModule` of the paper's beta 1, with eps for tau; v begins
    with `initial`, tau^2 in the paper. Raises InvalidSettingsError if a number is out of range.
    """

    memory: ClassVar[tuple[str, ...]] = ("square",)

    eps: float = 1e-7
    initial: float = 0.0

    def __post_init__(self) -> None:
        _check_least(self, "eps", "initial")

    def start(self, name: str) -> float:
        """Begin with `initial`."""
        del name
        return self.initial

    def apply(self, gradient: Any, state: State, step: int) -> Any:
        """See `Module.apply`."""
        del step
        state["square"] = square = state["square"] + gradient * gradient
        return gradient / (square**0.5 + self.eps)


@dataclass(frozen=True, slots=True)
class RMSPropModule:
    """Divide by the root of the mean square: v = beta v + (1 - beta) g^2, g / (sqrt(v) + eps) (Tieleman and Hinton, 2012).

    Raises InvalidSettingsError if a number is out of range.
    """

    memory: ClassVar[tuple[str, ...]] = ("square",)

    beta: float = 0.9
    eps: float = 1e-7

    def __post_init__(self) -> None:
        _check_share(self, "beta")
        _check_least(self, "eps")

    def start(self, name: str) -> float:
        """Begin with nothing."""
        del name
        return 0.0

    def apply(self, gradient: Any, state: State, step: int) -> Any:
        """See `Module.apply`."""
        del step
        state["square"] = square = self.beta * state["square"] + (1 - self.beta) * gradient * gradient
        return gradient / (square**0.5 + self.eps)


@dataclass(frozen=True, slots=True)
class AdamModule:
    """Divide the mean by the root of the mean square (Kingma and Ba, ICLR 2015, algorithm 1).

    m = beta_1 m + (1 - beta_1) g, v = beta_2 v + (1 - beta_2) g^2, m / (sqrt(v) + eps), where m and v are first divided by 1 - beta_1^t and
    1 - beta_2^t if `bias_correction` is set. FedAdam of Reddi et al. (ICLR 2021, algorithm 2) has no such correction, and eps for tau; v
    begins with `initial`, tau^2 in the paper. Raises InvalidSettingsError if a number is out of range.
    """

    memory: ClassVar[tuple[str, ...]] = ("mean", "square")

    beta_1: float = 0.9
    beta_2: float = 0.99
    eps: float = 1e-7
    bias_correction: bool = True
    initial: float = 0.0

    def __post_init__(self) -> None:
        _check_share(self, "beta_1", "beta_2")
        _check_least(self, "eps", "initial")

    def start(self, name: str) -> float:
        """Begin the mean with nothing, and the square with `initial`."""
        return self.initial if name == "square" else 0.0

    def apply(self, gradient: Any, state: State, step: int) -> Any:
        """See `Module.apply`."""
        state["mean"] = mean = self.beta_1 * state["mean"] + (1 - self.beta_1) * gradient
        state["square"] = square = self._square(gradient * gradient, state["square"])
        if self.bias_correction:
            mean, square = mean / (1 - self.beta_1**step), square / (1 - self.beta_2**step)
        return mean / (square**0.5 + self.eps)

    def _square(self, new: Any, old: Any) -> Any:
        return self.beta_2 * old + (1 - self.beta_2) * new


@dataclass(frozen=True, slots=True)
class YogiModule(AdamModule):
    """Do as Adam, with a mean square that changes slowly: v = v - (1 - beta_2) sign(v - g^2) g^2 (Zaheer et al., NeurIPS 2018, algorithm 2).

    FedYogi of Reddi et al. (ICLR 2021, algorithm 2) has no `bias_correction`, and eps for tau. Settings are those of `AdamModule`.
    """

    def _square(self, new: Any, old: Any) -> Any:
        return old - (1 - self.beta_2) * sign(old - new) * new


def sign(values: Any) -> Any:
    """Return 1, 0 or -1 for each number, in the dtype of the array, be it numpy's or torch's."""
    ones = values**0
    return (values > 0) * ones - (values < 0) * ones


def _check_share(module: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(module, name) < 1:
            _refuse(module, name, "is not at least 0 and less than 1")


def _check_least(module: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(module, name) < float("inf"):
            _refuse(module, name, "is not a number of at least 0")


def _refuse(module: Any, name: str, problem: str) -> None:
    raise InvalidSettingsError(
        source=type(module).__name__, problems=f"  {name}: {getattr(module, name)!r} {problem}"
    )
