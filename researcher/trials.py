"""Run one experiment in several variants, each in a directory of its own, and lay the results beside each other."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import JsonValue
from rich.console import RenderableType

from common.cli import table
from common.errors import InvalidSettingsError, RoundFailedError
from common.training_args import TrainingArgs
from researcher.comparison import as_text, last_scores, written
from researcher.page import html_of
from researcher.scores import HIGHER, On

if TYPE_CHECKING:
    from researcher.variants import Variants

log = logging.getLogger(__name__)

Point = Mapping[str, JsonValue]
"""Values of training arguments by their names; `optimizer_args.lr` is one inside another."""

_MOST_POINTS: Final = 10_000
_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """One variant.

    Attributes:
        point: The training arguments that it has of its own.
        folder: Name of its directory among the experiments.
        rounds: How many rounds it has finished.
        scores: Mean and pooled value of each metric at its end, by name and by what it is of.
        error: Why it failed; none if it is finished.
    """

    point: Point
    folder: str
    rounds: int
    scores: Mapping[tuple[str, On], tuple[float | None, float | None]]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Trials:
    """All variants; printed, a table.

    Attributes:
        trials: In the order in which they were run.
    """

    trials: tuple[Trial, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat record for each variant: its arguments, rounds, and metrics, `global_loss_pooled` for instance."""
        return [
            {
                **one.point,
                "rounds": one.rounds,
                "error": one.error,
                **{
                    f"{on}_{metric}_{view}": value
                    for (metric, on), values in one.scores.items()
                    for view, value in zip(("mean", "pooled"), values, strict=True)
                },
                "folder": one.folder,
            }
            for one in self.trials
        ]

    def best(self, metric: str = "loss", on: On = "global", *, larger: bool | None = None) -> Trial:
        """Return the finished variant with the best pooled value of a metric, the first of several.

        Args:
            metric: Its name.
            on: What it is of.
            larger: Whether more is better; known of Warren's own metrics.

        Raises:
            InvalidSettingsError: If no variant has that metric.
        """
        known = [
            (value, one)
            for one in self.trials
            if one.error is None and (value := one.scores.get((metric, on), (None, None))[1]) is not None
        ]
        if not known:
            raise InvalidSettingsError(source="best", problems=f"  {metric} ({on}): no variant has it")
        sign = -1 if (metric in HIGHER if larger is None else larger) else 1
        return min(known, key=lambda pair: sign * pair[0])[1]

    def summary(self) -> dict[tuple[str, On], tuple[float, float, int]]:
        """Return mean and standard deviation (ddof 1) of each metric's pooled values over the variants that have it, and their number."""
        found: dict[tuple[str, On], list[float]] = {}
        for one in self.trials:
            for key, (_, value) in one.scores.items():
                if value is not None:
                    found.setdefault(key, []).append(value)
        return {key: _spread(values) for key, values in found.items()}

    def __rich__(self) -> RenderableType:
        rows = self.rows()
        fixed = ("rounds", "error", "folder")
        values = dict.fromkeys(
            name for row in rows for name in row if name not in fixed and not name.endswith("_mean")
        )
        return table(
            *values,
            "rounds",
            "error",
            "folder",
            rows=[[_cell(row.get(name)) for name in (*values, *fixed)] for row in rows],
        )

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return html_of(self)


def grid_of(
    grid: Mapping[str, Sequence[JsonValue]], *, draws: int | None = None, seed: int = 0
) -> list[Point]:
    """Return all combinations of values, or some that were drawn; the same arguments give the same points.

    Args:
        grid: The values to try of each argument.
        draws: How many combinations to draw, none twice; all in their order if not given.
        seed: Seed of the draw.

    Raises:
        InvalidSettingsError: If there is nothing to try, or far too much.
    """
    count = math.prod(len(values) for values in grid.values()) if grid else 0
    wanted = count if draws is None else min(draws, count)
    if not 1 <= wanted <= _MOST_POINTS:
        raise InvalidSettingsError(
            source="sweep", problems=f"  grid: {wanted} variants, and 1 to {_MOST_POINTS} are possible"
        )
    if draws is None:
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    places = random.Random(seed).sample(range(count), wanted)  # noqa: S311 - repeatable on purpose
    return [_point(grid, place) for place in places]


def parsed_grid(texts: Sequence[str]) -> dict[str, list[JsonValue]]:
    """Return a grid of texts such as `optimizer_args.lr=0.1,0.01`: values are JSON, and words need no quotes.

    Raises:
        InvalidSettingsError: If a text has another form.
    """
    grid: dict[str, list[JsonValue]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        if not name or not sign or not values:
            raise InvalidSettingsError(source="sweep", problems=f"  {text}: should be NAME=VALUE,VALUE")
        try:
            grid[name] = json.loads(f"[{values}]")
        except json.JSONDecodeError:
            grid[name] = [_value(word) for word in values.split(",")]
    return grid


def _value(word: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(word)
    except json.JSONDecodeError:
        return word
    return value


def run_trials(experiment: Variants, points: Sequence[Point]) -> Trials:
    """Run an experiment once for each point, one after the other; a point that is finished already is only read.

    Each has a directory of its own, named after the experiment and what it is asked for: so whoever is interrupted calls this again.
    A variant whose round fails is noted, and the others go on.

    Raises:
        InvalidArgumentsError: If a point gives training arguments that are wrong; nothing has run then.
        ExperimentCancelledError: If one was cancelled; those before it are kept.
    """
    for point in points:
        experiment.variant(point).close()
    return Trials(tuple(_run(experiment, point) for point in points))


def varied(args: Mapping[str, Any], point: Point) -> TrainingArgs:
    """Return training arguments with the values of a point.

    Raises:
        InvalidArgumentsError: If they are wrong together.
    """
    document = json.loads(json.dumps(dict(args)))
    for name, value in point.items():
        *path, last = name.split(".")
        inside = document
        for part in path:
            inside = inside.setdefault(part, {})
        inside[last] = value
    return TrainingArgs.of(document)


def folder_of(name: str, plan_hash: str, settings: Mapping[str, Any]) -> str:
    """Return a name for the directory of a variant: it belongs to this plan with these settings."""
    document = json.dumps([plan_hash, settings], sort_keys=True, default=str)
    digest = hashlib.sha256(document.encode()).hexdigest()[:_DIGITS]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "experiment"
    return f"{slug}-{digest}"


def fold_points(k: int) -> list[Point]:
    """Return the point of each fold of a cross-validation."""
    held_back = {"test_ratio": 0.0, "test_on_global_updates": True, "test_folds": k}
    return [{**held_back, "test_fold": fold} for fold in range(max(k, 1))]


def _run(experiment: Variants, point: Point) -> Trial:
    variant, error = experiment.variant(point), None
    try:
        if not variant.finished():
            variant.run()
    except RoundFailedError as failure:
        error = str(failure)
        log.warning("variant failed", extra={"action": "variant_failed", "folder": str(variant.folder)})
    finally:
        variant.close()
    folder = "" if variant.folder is None else variant.folder.name
    return Trial(dict(point), folder, variant.round_current(), last_scores(variant.history()), error)


def _point(grid: Mapping[str, Sequence[JsonValue]], place: int) -> Point:
    """Return the combination with this number, the last argument counting fastest."""
    point: dict[str, JsonValue] = {}
    for name, values in reversed(list(grid.items())):
        place, index = divmod(place, len(values))
        point[name] = values[index]
    return {name: point[name] for name in grid}


def _spread(values: Sequence[float]) -> tuple[float, float, int]:
    count = len(values)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / max(count - 1, 1)), count


def _cell(value: object) -> object:
    return written(value) if isinstance(value, float) else value
