"""Draw lines over rounds as SVG that reads well on light and on dark backgrounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 760
_HEIGHT: Final = 400
_LEFT: Final = 58
_RIGHT: Final = 130
_TOP: Final = 52
_BOTTOM: Final = 48
_LABEL_GAP: Final = 15.0
_MOST_TICKS: Final = 6

_STYLE: Final = """
.wc { --paper: #fff; --ink: #1d2430; --soft: #5b6573; --rule: #e3e6eb;
      --s0: #2563c9; --s1: #b8520a; --s2: #0b7a5c; --s3: #a12d8a; }
@media (prefers-color-scheme: dark) {
  .wc { --paper: #14181f; --ink: #e8ebf0; --soft: #9aa4b2; --rule: #2b323d;
        --s0: #7db0ff; --s1: #ffa766; --s2: #4fd1a8; --s3: #f090da; }
}
.wc text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.wc .title { font-size: 15px; font-weight: 600; fill: var(--ink); }
.wc .rule { stroke: var(--rule); }
.wc .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.wc .mean { stroke: var(--ink); stroke-width: 3; }
.wc .name { font-weight: 600; }
""".strip()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: a name and a value for each round; None where there is none."""

    name: str
    values: Sequence[float | None]


def loss_chart(losses: Mapping[str, Sequence[float | None]], mean: Sequence[float | None]) -> str:
    """Return a chart of the loss of each node and their mean over the rounds, from 1.

    The same numbers give the same bytes. All names are escaped; the picture holds no script and loads nothing.
    """
    lines = [Line(name, values) for name, values in losses.items()]
    everything = [*lines, Line("mean", mean)]
    known = [value for line in everything for value in line.values if value is not None]
    low, high, ticks = _scale(min(known, default=0.0), max(known, default=1.0))
    rounds = max((len(line.values) for line in everything), default=0)
    frame = _Frame(rounds, low, high)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wc" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-labelledby="wc-title wc-text">',
        '<title id="wc-title">Training loss over the rounds</title>',
        f'<desc id="wc-text">{escape(_described(everything))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="var(--paper)"/>',
        f'<text class="title" x="{_LEFT}" y="28">Training loss at each node, and their mean</text>',
        *(frame.rule(tick) for tick in ticks),
        *(frame.round_mark(number) for number in _marked_rounds(rounds)),
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 12}" text-anchor="middle">round</text>',
    ]
    strokes = [f'class="line" stroke="var(--s{number % 4})"' for number in range(len(lines))]
    fills = [f"var(--s{number % 4})" for number in range(len(lines))]
    for line, stroke in zip(everything, [*strokes, 'class="line mean"'], strict=True):
        parts.append(frame.path(line, stroke))
    parts += frame.names(everything, [*fills, "var(--ink)"])
    parts.append("</svg>\n")
    return "\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a round and a value are in the picture."""

    rounds: int
    low: float
    high: float

    def x(self, number: int) -> float:
        steps = max(self.rounds - 1, 1)
        return _LEFT + (number - 1) / steps * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def rule(self, value: float) -> str:
        y = f"{self.y(value):.1f}"
        return (
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{_LEFT - 10}" y="{y}" dy="4" text-anchor="end">{value:.10g}</text>'
        )

    def round_mark(self, number: int) -> str:
        return f'<text x="{self.x(number):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{number}</text>'

    def path(self, line: Line, stroke: str) -> str:
        """Return one line, with gaps where values are missing; a lonely value becomes a dot."""
        steps: list[str] = []
        before: float | None = None
        for number, value in enumerate(line.values, start=1):
            if value is not None:
                at = f"{self.x(number):.1f} {self.y(value):.1f}"
                steps.append(f"L{at}" if before is not None else f"M{at}h0")
            before = value
        return f'<path {stroke} d="{"".join(steps)}"/>' if steps else ""

    def names(self, lines: Sequence[Line], fills: Sequence[str]) -> list[str]:
        """Return the name of each line beside its end, moved apart where they would touch."""
        ends = [
            (self.y(last), line.name, fill)
            for line, fill in zip(lines, fills, strict=True)
            if (last := next((value for value in reversed(line.values) if value is not None), None))
            is not None
        ]
        ends.sort()
        places = _apart([y for y, _, _ in ends], _LABEL_GAP)
        x = _WIDTH - _RIGHT + 10
        return [
            f'<text class="name" x="{x}" y="{place:.1f}" dy="4" style="fill:{fill}">{escape(name)}</text>'
            for place, (_, name, fill) in zip(places, ends, strict=True)
        ]


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return ascending places at least `gap` apart, each group centred on where its members want to be."""
    groups: list[list[float]] = []
    for place in wanted:
        groups.append([place])
        while len(groups) > 1 and _last(groups[-2], gap) + gap > _first(groups[-1], gap):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_first(group, gap) + index * gap for group in groups for index in range(len(group))]


def _first(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - (len(group) - 1) * gap / 2


def _last(group: Sequence[float], gap: float) -> float:
    return _first(group, gap) + (len(group) - 1) * gap


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return the ends of an axis around these values, and round numbers on it."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if span / (unit * factor) <= _MOST_TICKS - 1)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return first * step, last * step, [round(index * step, 12) for index in range(first, last + 1)]


def _marked_rounds(rounds: int) -> list[int]:
    step = max(1, math.ceil(rounds / 15))
    return list(range(1, rounds + 1, step))


def _described(lines: Sequence[Line]) -> str:
    ends = [
        f"{line.name} from {known[0]:.3f} to {known[-1]:.3f}"
        for line in lines
        if (known := [value for value in line.values if value is not None])
    ]
    return "; ".join(ends)
