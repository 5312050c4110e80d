"""Let the learning rate change from round to round: a pure function of the number of the round."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LearningRateSchedule"]

Rounds = Annotated[int, Field(ge=1, lt=2**53)]
Share = Annotated[float, Field(gt=0, le=1)]


class _Schedule(BaseModel, ABC):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    warmup_rounds: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """Rounds at the beginning in which the rate rises in even steps; the full rate comes after them (Goyal et al., 2017, section 2.2)."""

    def factor(self, round_: int) -> float:
        """Return by what the learning rates of the optimizer are multiplied in a round, counted from 1."""
        if round_ <= self.warmup_rounds:
            return max(1, round_) / (self.warmup_rounds + 1)
        return self._after(max(0, round_ - self.warmup_rounds - 1))

    @abstractmethod
    def _after(self, rounds: int) -> float:
        """Return the factor so many rounds after the first one at the full rate."""


class Constant(_Schedule):
    """Stay at the full rate after warming up."""

    kind: Literal["constant"] = "constant"
    warmup_rounds: Rounds

    def _after(self, rounds: int) -> float:  # noqa: ARG002 - it is the same in all
        return 1.0


class Step(_Schedule):
    """Multiply by `gamma` after every `every` rounds."""

    kind: Literal["step"] = "step"
    every: Rounds
    gamma: Share = 0.1

    def _after(self, rounds: int) -> float:
        return float(self.gamma ** (rounds // self.every))


class Exponential(_Schedule):
    """Multiply by `gamma` after each round."""

    kind: Literal["exponential"] = "exponential"
    gamma: Share

    def _after(self, rounds: int) -> float:
        return float(self.gamma**rounds)


class Cosine(_Schedule):
    """Fall along half a cosine to `floor` within `rounds` rounds and stay there (Loshchilov & Hutter, ICLR 2017, eq. 5)."""

    kind: Literal["cosine"] = "cosine"
    rounds: Rounds
    floor: Share = 0.01

    def _after(self, rounds: int) -> float:
        height = (1 + math.cos(math.pi * min(rounds, self.rounds) / self.rounds)) / 2
        return self.floor + (1 - self.floor) * height


LearningRateSchedule = Annotated[Constant | Step | Exponential | Cosine, Field(discriminator="kind")]
