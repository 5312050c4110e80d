"""Lay two experiments beside each other: the settings that differ, and the last value of each metric."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType

from common.cli import table
from researcher.history import History
from researcher.page import html_of
from researcher.scores import On


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that the two do not share; none where one of them lacks it."""

    setting: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Side:
    """One metric of both at the end, in both views over nodes; none where one of them lacks it."""

    metric: str
    on: On
    first_mean: float | None
    second_mean: float | None
    first_pooled: float | None
    second_pooled: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two experiments beside each other; printed, it is two tables.

    Attributes:
        names: What the two are called.
        settings: What differs between them.
        metrics: Their metrics at the end.
    """

    names: tuple[str, str]
    settings: tuple[Difference, ...]
    metrics: tuple[Side, ...]

    def __rich__(self) -> RenderableType:
        first, second = self.names
        settings = table(
            "setting", first, second, rows=[(one.setting, one.first, one.second) for one in self.settings]
        )
        columns = ("metric", "on", f"{first} mean", f"{second} mean", f"{first} pooled", f"{second} pooled")
        rows = [
            (
                one.metric,
                one.on,
                *map(written, (one.first_mean, one.second_mean, one.first_pooled, one.second_pooled)),
            )
            for one in self.metrics
        ]
        return Group(settings, "", table(*columns, rows=rows))

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return html_of(self)


def compare(
    names: tuple[str, str],
    settings: tuple[Mapping[str, Any], Mapping[str, Any]],
    histories: tuple[History, History],
) -> Comparison:
    """Return two experiments beside each other."""
    first, second = (dict(_leaves("", one)) for one in settings)
    differing = [name for name in first | second if first.get(name) != second.get(name)]
    ends = [last_scores(one) for one in histories]
    return Comparison(
        names,
        tuple(Difference(name, first.get(name), second.get(name)) for name in differing),
        tuple(
            Side(metric, on, *(end.get((metric, on), (None, None))[view] for view in (0, 1) for end in ends))
            for metric, on in ends[0] | ends[1]
        ),
    )


def last_scores(history: History) -> dict[tuple[str, On], tuple[float | None, float | None]]:
    """Return mean and pooled value of each metric in the last closed round that has it."""
    found: dict[tuple[str, On], tuple[float | None, float | None]] = {}
    for score in history.all_scores():
        found[score.metric, score.on] = score.mean, score.pooled
    return found


def written(value: float | None) -> str | None:
    """Return a metric as text for a table."""
    return None if value is None else f"{value:.6g}"


def as_text(view: RenderableType) -> str:
    """Return what a terminal without colours would show."""
    text = io.StringIO()
    Console(file=text, width=200, highlight=False, color_system=None).print(view)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _leaves(f"{path}.{name}" if path else str(name), part)
    else:
        yield path, value
