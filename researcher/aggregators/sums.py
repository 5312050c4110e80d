"""Add up the statistics of all nodes, and step to the model that they lead to: what pooled data would give.

The plans that send such statistics are in `common.training_plans`; their tensors whose names begin with `sum.` are the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from common.errors import NotSolvableError
from common.payload.blocks import Array, BlockFile, Doubles, blocks, from_doubles, to_doubles
from common.payload.header import SUMS, Content
from researcher.aggregators.base import Contribution

_NOISE: Final = 1e-10
"""By what share an objective may fall through rounding alone."""
_LEAST_PIVOT: Final = 1e-12
"""Least share of a column that must not follow from others, as 1 - R squared, for a step to have some correct digits."""


@dataclass(frozen=True, slots=True)
class SumStatistics:
    """Add up what nodes counted; all else stays as it is in the base. Nodes are not weighted: a sum holds its own weight."""

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the sums, in float64 and node order; see `Aggregator.aggregate`. Memory is a few blocks.

        Raises:
            NotSolvableError: If the model has no statistics.
        """
        with ExitStack() as stack:
            model = stack.enter_context(BlockFile(base))
            _require_sums(model)
            files = [stack.enter_context(one.open(base, model.layout)) for one in contributions]
            out = stack.enter_context(target.open("wb"))
            out.write(model.layout.header)
            for name, entry in model.index.items():
                for first, count in blocks(entry):
                    block = model.read(name, first, count)
                    if name.startswith(SUMS):
                        total = np.zeros(count)
                        for file in files:
                            total += to_doubles(file.read(name, first, count), entry.dtype)
                        block = from_doubles(total, entry.dtype)
                    out.write(block.data)


@dataclass(frozen=True, slots=True)
class NewtonStep:
    """Maximise a log-likelihood that is a sum over nodes, by Newton's method with step halving, one step in a round.

    With g and I the sums of the nodes' gradients and information matrices at w, and penalties p of the coefficients, the next model is
    w + (I + diag(p))^-1 (g - p w) (Boyd and Vandenberghe, Convex Optimization, 2004, section 9.5). If the step before made the penalised
    log-likelihood worse, over as many samples as before, the next model is halfway back instead, as R's `coxph` and `glm` do. What the step started
    from is kept beside the model: `evaluated`, with the sums that belong to it.
    """

    def aggregate(self, base: Content, contributions: Sequence[Contribution], target: Path) -> None:
        """Write the stepped model; see `Aggregator.aggregate`. Memory is that of two models, whatever the number of nodes.

        Raises:
            NotSolvableError: If the information matrix cannot be inverted, or the model has no statistics.
        """
        with ExitStack() as stack:
            model = stack.enter_context(BlockFile(base))
            _require_sums(model)
            before = {name: _whole(model, name) for name in model.index}
            now = {name: values if name not in _sums(model) else 0.0 for name, values in before.items()}
            for one in contributions:
                with one.open(base, model.layout) as file:
                    for name in _sums(model):
                        entry = model.index[name]
                        now[name] = now[name] + to_doubles(file.read(name, 0, entry.elements), entry.dtype)
            after = _stepped(before, {name: np.asarray(values) for name, values in now.items()})
            out = stack.enter_context(target.open("wb"))
            out.write(model.layout.header)
            for name, entry in model.index.items():
                out.write(_stored(after[name], entry.dtype).data)


def _stepped(before: Mapping[str, Doubles], now: Mapping[str, Doubles]) -> dict[str, Doubles]:
    """Return the tensors of the next model, given those of the model before and the same ones with the sums at its coefficients."""
    here, penalty = now["coefficients"], now["penalty"]
    if before["sum.samples"] == now["sum.samples"]:
        best, worse = _objective(before, before["evaluated"]), _objective(now, here)
        if worse < best - _NOISE * (1 + abs(best)):
            return {**before, "coefficients": (here + before["evaluated"]) / 2}
    information = now["sum.information"].reshape(len(here), len(here)) + np.diag(penalty)
    step = _solved(information, now["sum.gradient"] - penalty * here)
    return {**now, "coefficients": here + step, "evaluated": here}


def _objective(tensors: Mapping[str, Doubles], at: Doubles) -> float:
    return float(tensors["sum.log_likelihood"].sum() - np.sum(tensors["penalty"] * at**2) / 2)


def _solved(matrix: Doubles, right: Doubles) -> Doubles:
    """Return the solution of a positive definite system by elimination.

    The diagonal is scaled to ones first, so that units of columns do not matter. Everything is done number by number: linear algebra libraries round otherwise
    on other machines and with other numbers of threads.
    """
    diagonal = np.diag(matrix)
    if not (diagonal > 0).all():
        raise NotSolvableError(reason=f"column {int(np.argmin(diagonal))} of {len(diagonal)} tells nothing")
    scale = 1 / np.sqrt(diagonal)
    left, answer = matrix * scale[:, None] * scale, scale * right
    for at in range(len(answer)):
        if not left[at, at] > _LEAST_PIVOT:
            raise NotSolvableError(reason=f"column {at} of {len(answer)} follows from those before it")
        factors = left[at + 1 :, at] / left[at, at]
        left[at + 1 :, at + 1 :] -= factors[:, None] * left[at, at + 1 :]
        answer[at + 1 :] -= factors * answer[at]
    for at in reversed(range(len(answer))):
        answer[at] /= left[at, at]
        answer[:at] -= left[:at, at] * answer[at]
    solution: Doubles = scale * answer
    return solution


def _require_sums(model: BlockFile) -> None:
    if not _sums(model):
        raise NotSolvableError(reason="the model has none")


def _sums(model: BlockFile) -> list[str]:
    return [name for name in model.index if name.startswith(SUMS)]


def _whole(model: BlockFile, name: str) -> Doubles:
    entry = model.index[name]
    return to_doubles(model.read(name, 0, entry.elements), entry.dtype)


def _stored(values: Doubles, dtype: str) -> Array:
    return np.ascontiguousarray(from_doubles(values.ravel(), dtype))
