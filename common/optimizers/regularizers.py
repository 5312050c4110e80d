"""Add to gradients what keeps parameters small, few, or near to where they began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from common.errors import InvalidSettingsError
from common.optimizers.modules import sign


class Regularizer(Protocol):
    """A term of the loss, by its gradient."""

    def gradient(self, parameters: Any, start: Any) -> Any:
        """Return the gradient of the term.

        Args:
            parameters: Array of floats.
            start: The same parameters in the global model that the round started from.
        """
        ...


@dataclass(frozen=True, slots=True)
class RidgeRegularizer:
    """Add alpha / 2 |w|^2 to the loss. Raises InvalidSettingsError if alpha is negative."""

    alpha: float = 0.01

    def __post_init__(self) -> None:
        _check(self, self.alpha)

    def gradient(self, parameters: Any, start: Any) -> Any:
        """See `Regularizer.gradient`."""
        del start
        return self.alpha * parameters


@dataclass(frozen=True, slots=True)
class LassoRegularizer:
    """Add alpha |w|_1 to the loss; at 0 the gradient is 0. Raises InvalidSettingsError if alpha is negative."""

    alpha: float = 0.01

    def __post_init__(self) -> None:
        _check(self, self.alpha)

    def gradient(self, parameters: Any, start: Any) -> Any:
        """See `Regularizer.gradient`."""
        del start
        return self.alpha * sign(parameters)


@dataclass(frozen=True, slots=True)
class FedProxRegularizer:
    """Add alpha / 2 |w - w_global|^2 to the loss (Li et al., MLSys 2020, eq. 2). Raises InvalidSettingsError if alpha is negative."""

    alpha: float = 0.01

    def __post_init__(self) -> None:
        _check(self, self.alpha)

    def gradient(self, parameters: Any, start: Any) -> Any:
        """See `Regularizer.gradient`."""
        return self.alpha * (parameters - start)


def _check(regularizer: Any, alpha: float) -> None:
    if not 0 <= alpha < float("inf"):
        raise InvalidSettingsError(
            source=type(regularizer).__name__, problems=f"  alpha: {alpha!r} is not a number of at least 0"
        )
