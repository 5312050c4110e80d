"""Let a plan change the batches that it trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from common.training_plans.guard import PlanCode

if TYPE_CHECKING:
    from common.data import Loader
    from common.training_plans.base import TrainingPlan


class ProcessTypes(Enum):
    """What a method of `add_preprocess` changes."""

    DATA_LOADER = auto()
    """The batches of the training part."""


class Preprocessed:
    """A loader whose every pass is what a plan's method makes of that pass.

    Args:
        plan: Whose method it is.
        loader: The batches before.
        method: Takes the loader and returns batches.
    """

    def __init__(self, plan: TrainingPlan, loader: Loader, method: Callable[..., Any]) -> None:
        self.samples = loader.samples
        self._plan = plan
        self._loader = loader
        self._method = method

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        name = getattr(self._method, "__name__", "add_preprocess")
        with PlanCode(type(self._plan), name):
            made = self._method(self._loader)
        if not isinstance(made, Iterable):
            self._plan.breaks_contract(name, f"returned {type(made).__name__}, not batches")
        return iter(made)
