"""Draw lines over rounds as SVG that reads well on light and on dark backgrounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

_WIDTH: Final = 760
_HEIGHT: Final = 400
_LEFT: Final = 58
_RIGHT: Final = 130
_TOP: Final = 52
_BOTTOM: Final = 48
_LABEL_GAP: Final = 15.0
_MOST_TICKS: Final = 6
_LEAST_SPAN: Final = 1e-6
"""An axis shows no smaller differences than this share of its values."""

_LIGHT: Final = ("#2563c9", "#b8520a", "#0b7a5c", "#a12d8a")
_DARK: Final = ("#7db0ff", "#ffa766", "#4fd1a8", "#f090da")
_INK: Final = "#1d2430"

_DARK_INK: Final = "#e8ebf0"

# Light colours are attributes and dark ones a style sheet: viewers that know little of CSS show the light picture.
_STYLE: Final = "\n".join(
    [
        ".wc text { font-family: system-ui, sans-serif; font-size: 12px; }",
        ".wc .title { font-size: 15px; font-weight: 600; }",
        ".wc .name { font-weight: 600; }",
        "@media (prefers-color-scheme: dark) {",
        "  .wc .paper { fill: #14181f; } .wc .soft { fill: #9aa4b2; } .wc .rule { stroke: #2b323d; }",
        f"  .wc .title, .wc .name.mean {{ fill: {_DARK_INK}; }} .wc .line.mean {{ stroke: {_DARK_INK}; }}",
        *(
            f"  .wc .name.c{number} {{ fill: {colour}; }} .wc .line.c{number} {{ stroke: {colour}; }}"
            for number, colour in enumerate(_DARK)
        ),
        "}",
    ]
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        name: What it is of.
        values: One for each round; None where there is none.
        kind: The class of its elements.
        colour: On light backgrounds.
        width: Of the stroke.
        dashes: Lengths of dashes and gaps; a full line if empty.
    """

    name: str
    values: Sequence[float | None]
    kind: str = "mean"
    colour: str = _INK
    width: float = 3.0
    dashes: str = ""

    @property
    def end(self) -> float | None:
        """Return the last value."""
        return next((value for value in reversed(self.values) if value is not None), None)


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture as SVG; a notebook shows it by itself."""

    svg: str

    def save(self, path: Path | str) -> None:
        """Write it to a file."""
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Chart({len(self.svg)} characters of SVG)"


def chart_of(
    title: str,
    nodes: Mapping[str, Sequence[float | None]],
    overall: Mapping[str, Sequence[float | None]],
    rounds: Sequence[int],
) -> Chart:
    """Return a chart of values over rounds.

    The same numbers give the same bytes. All names are escaped; the picture holds no script and loads nothing.

    Args:
        title: Says what is shown.
        nodes: The values of each node, one for each round; None where there is none.
        overall: The same for all nodes together: one or two views, of which the second is drawn with dashes.
        rounds: Their numbers.
    """
    colours = [(f"c{number}", colour) for number, colour in enumerate(_LIGHT)]
    lines = [
        Line(name, values, *colours[number % len(colours)], width=1.8)
        for number, (name, values) in enumerate(nodes.items())
    ]
    for (name, values), dashes in zip(overall.items(), ("", "7 5"), strict=False):
        lines.append(Line(name, values, dashes=dashes))
    known = [value for line in lines for value in line.values if value is not None]
    scale = _Scale.around(min(known, default=0.0), max(known, default=1.0))
    frame = _Frame(len(rounds), scale)
    steps = range(0, len(rounds), max(1, math.ceil(len(rounds) / 15)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wc" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-labelledby="wc-title wc-text">',
        f'<title id="wc-title">{escape(title)}</title>',
        f'<desc id="wc-text">{escape(_described(lines))}</desc>',
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>',
        f'<text class="title" x="{_LEFT}" y="28" fill="{_INK}">{escape(title)}</text>',
        *(frame.rule(tick) for tick in scale.ticks),
        *(frame.round_mark(place + 1, rounds[place]) for place in steps),
        frame.soft("round", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, "middle"),
        *(frame.path(line) for line in lines),
        *frame.names(lines),
        "</svg>\n",
    ]
    return Chart("\n".join(part for part in parts if part))


@dataclass(frozen=True, slots=True)
class _Scale:
    """An axis whose ticks are round numbers."""

    step: float
    first: int
    last: int

    @classmethod
    def around(cls, low: float, high: float) -> _Scale:
        span = max(high - low, _LEAST_SPAN * max(1.0, abs(high)))
        unit = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
        step = next(
            unit * factor for factor in (1, 2, 5, 10, 20) if span / (unit * factor) <= _MOST_TICKS - 1
        )
        first = math.floor(low / step)
        return cls(step, first, max(math.ceil(high / step), first + 1))

    @property
    def ticks(self) -> list[float]:
        return [index * self.step for index in range(self.first, self.last + 1)]

    def share(self, value: float) -> float:
        """Return where a value is, from 0 to 1."""
        return (value / self.step - self.first) / (self.last - self.first)

    def written(self, value: float) -> str:
        return f"{value:.{max(0, -math.floor(math.log10(self.step)))}f}"


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a round and a value are in the picture."""

    rounds: int
    scale: _Scale

    def x(self, number: int) -> float:
        return _LEFT + (number - 1) / max(self.rounds - 1, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self.scale.share(value) * (_HEIGHT - _TOP - _BOTTOM)

    def soft(self, text: str, x: float, y: float, anchor: str) -> str:
        return (
            f'<text class="soft" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#5b6573">{text}</text>'
        )

    def rule(self, value: float) -> str:
        y = self.y(value)
        line = f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e6eb"/>'
        return line + self.soft(self.scale.written(value), _LEFT - 10, y + 4, "end")

    def round_mark(self, place: int, number: int) -> str:
        return self.soft(str(number), self.x(place), _HEIGHT - _BOTTOM + 18, "middle")

    def path(self, line: Line) -> str:
        """Return one line, with gaps where values are missing; a lonely value becomes a dot."""
        steps: list[str] = []
        before: float | None = None
        for number, value in enumerate(line.values, start=1):
            if value is not None:
                at = f"{self.x(number):.1f} {self.y(value):.1f}"
                steps.append(f"L{at}" if before is not None else f"M{at}h0")
            before = value
        style = f'fill="none" stroke="{line.colour}" stroke-width="{line.width}" stroke-linejoin="round" stroke-linecap="round"'
        if line.dashes:
            style += f' stroke-dasharray="{line.dashes}"'
        return f'<path class="line {line.kind}" {style} d="{"".join(steps)}"/>' if steps else ""

    def names(self, lines: Sequence[Line]) -> list[str]:
        """Return the name of each line beside its end, moved apart where they would touch."""
        ends = [(self.y(line.end), line) for line in lines if line.end is not None]
        ends.sort(key=lambda end: end[0])
        places = _apart([y for y, _ in ends], _LABEL_GAP)
        return [
            f'<text class="name {line.kind}" x="{_WIDTH - _RIGHT + 10}" y="{place + 4:.1f}" '
            f'fill="{line.colour}">{escape(line.name)}</text>'
            for place, (_, line) in zip(places, ends, strict=True)
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


def _described(lines: Sequence[Line]) -> str:
    ends = [
        f"{line.name} from {known[0]:.3f} to {known[-1]:.3f}"
        for line in lines
        if (known := [value for value in line.values if value is not None])
    ]
    return "; ".join(ends)
