"""Draw a curve of losses, so that a browser needs no script for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Final

from common.messages import LossPoint

WIDTH: Final = 520
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 30
_TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark beside a curve: where it is, and the number there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve in a box of `WIDTH` by `HEIGHT`.

    Attributes:
        lines: Its parts, as the points of an SVG polyline each; it is broken where a loss is no number.
        end: The last point, x and y.
        across: Marks along the steps.
        up: Marks along the losses.
        first: The first loss.
        last: The last loss.
        least: The least loss.
        steps: Steps until the last point.
        broken: Points without a loss.
    """

    lines: tuple[str, ...]
    end: tuple[float, float]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    first: float
    last: float
    least: float
    steps: int
    broken: int


def curve_of(points: tuple[LossPoint, ...]) -> Curve | None:
    """Return the curve of losses over the steps of a task; None if there is no loss that is a number."""
    told = [(point.iteration, point.loss) for point in points if point.loss is not None]
    if not told:
        return None
    steps, losses = [step for step, _ in told], [loss for _, loss in told]
    right, low, high = max(steps[-1], 1), min(losses), max(losses)
    room = (high - low) or max(abs(high), 1.0)  # a flat curve lies at the bottom

    def x(step: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * step / right, 1)

    def y(loss: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (loss - low) / room, 1)

    lines = [
        " ".join(f"{x(point.iteration)},{y(point.loss)}" for point in run if point.loss is not None)
        for there, run in groupby(points, key=lambda point: point.loss is not None)
        if there
    ]
    parts = [number / _TICKS for number in range(_TICKS + 1)]
    return Curve(
        lines=tuple(lines),
        end=(x(steps[-1]), y(losses[-1])),
        across=tuple(Tick(x(right * part), f"{right * part:,.0f}") for part in parts),
        up=tuple(Tick(y(low + room * part), f"{low + room * part:.3g}") for part in parts),
        first=losses[0],
        last=losses[-1],
        least=low,
        steps=steps[-1],
        broken=len(points) - len(told),
    )
