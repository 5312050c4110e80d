"""Show Prometheus how the experiments of this process go.

Series are bounded: by experiment, of which the newest are kept; by node, of which the roster has so many; by metric, of which an
experiment shows so many; and by words from fixed lists.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common.ids import ExperimentId, PartyId
from common.messages import TaskTimings
from researcher.history import NodeRecord, RoundRecord, mean_loss
from researcher.monitoring.events import (
    Event,
    RoundEnded,
    RoundOpened,
    RunEnded,
    RunStarted,
    TaskLost,
    UpdateArrived,
)
from researcher.monitoring.families import FAMILIES, Value, shown
from researcher.rows import Outcome

EXPERIMENTS: Final = 20
"""So many experiments have series; a new one takes the place of the one that was silent for the longest."""

METRICS: Final = 20
"""So many metrics of an experiment have series: those that were told first."""

_STEPS: Final = ("broadcast", "collect", "aggregate", "save")
_TASK_STEPS: Final = tuple(
    name.removesuffix("_s") for name in TaskTimings.model_fields if name.endswith("_s")
)


@dataclass(slots=True)
class _Sum:
    count: int = 0
    total: float = 0.0

    def add(self, value: float | None) -> None:
        if value is not None:
            self.count += 1
            self.total += value

    @property
    def value(self) -> Value:
        return self.count, self.total


@dataclass(slots=True)
class _Picture:
    """What is known of one experiment."""

    name: str = ""
    nodes: tuple[PartyId, ...] = ()
    running: bool = False
    round: int = 0
    last: int = 0
    opened_at: float = 0.0
    loss: float | None = None
    model_bytes: int | None = None
    duration: _Sum = field(default_factory=_Sum)
    steps: dict[str, _Sum] = field(default_factory=lambda: {step: _Sum() for step in _STEPS})
    rounds: Counter[str] = field(default_factory=Counter)
    losses: dict[PartyId, float] = field(default_factory=dict)
    metrics: dict[tuple[PartyId, str, str], float] = field(default_factory=dict)
    metric_names: dict[str, None] = field(default_factory=dict)
    updates: Counter[tuple[PartyId, str]] = field(default_factory=Counter)
    update_bytes: Counter[PartyId] = field(default_factory=Counter)
    samples: Counter[PartyId] = field(default_factory=Counter)
    lost: Counter[tuple[PartyId, str]] = field(default_factory=Counter)


class ExperimentFigures(Collector):
    """Remembers what happens in the experiments of this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: dict[ExperimentId, _Picture] = {}
        self._node_steps: dict[tuple[PartyId, str], _Sum] = {}
        self._training_s: defaultdict[tuple[PartyId, str], float] = defaultdict(float)

    def note(self, experiment: ExperimentId, event: Event) -> None:
        """Take note of an event in an experiment."""
        with self._lock:
            picture = self._pictures.pop(experiment, None) or _Picture()
            self._pictures[experiment] = picture  # last in order: the newest
            while len(self._pictures) > EXPERIMENTS:
                del self._pictures[next(iter(self._pictures))]
            match event:
                case RunStarted(name=name, nodes=nodes, first=first, last=last):
                    picture.nodes = nodes
                    for key in product(nodes, _TASK_STEPS):
                        self._node_steps.setdefault(key, _Sum())
                    picture.name, picture.running, picture.last = name, True, last
                    picture.round = first - 1
                case RoundOpened(at=at):
                    picture.opened_at = at
                case TaskLost(node=node, retried=retried):
                    picture.lost[node, "true" if retried else "false"] += 1
                case UpdateArrived(record=record):
                    self._updated(picture, record)
                case RoundEnded(record=record):
                    _ended(picture, record)
                case RunEnded():
                    picture.running, picture.opened_at = False, 0.0
                case _:
                    pass  # what nodes tell meanwhile is shown by others

    def _updated(self, picture: _Picture, record: NodeRecord) -> None:
        node = record.node
        picture.updates[node, record.outcome] += 1
        if record.outcome != "accepted":
            return
        picture.update_bytes[node] += record.update_bytes
        picture.samples[node] += record.samples_seen
        if record.loss is not None:
            picture.losses[node] = record.loss
        for one in record.validations:
            for name, value in one.metrics.items():
                if len(picture.metric_names) < METRICS:
                    picture.metric_names[name] = None
                if name in picture.metric_names and value is not None:
                    picture.metrics[node, one.on, name] = value
        if record.timings is not None:
            self._training_s[node, record.device] += record.timings.trained_s
            for step, seconds in record.timings:
                if step.endswith("_s"):
                    self._node_steps[node, step.removesuffix("_s")].add(seconds)

    def describe(self) -> Iterable[Metric]:
        """Return the families, without series."""
        return shown(FAMILIES, {})

    def collect(self) -> Iterable[Metric]:
        """Return the families with their series."""
        with self._lock:
            return list(shown(FAMILIES, self._series()))

    def _series(self) -> dict[str, list[tuple[tuple[str, ...], Value]]]:
        found: dict[str, list[tuple[tuple[str, ...], Value]]] = {
            "warren_node_task_step_duration_seconds": [
                (key, one.value) for key, one in self._node_steps.items()
            ],
            "warren_node_training_seconds": list(self._training_s.items()),
        }
        for experiment, picture in self._pictures.items():
            for name, labels, value in _series_of(picture):
                found.setdefault(name, []).append(((experiment, *labels), value))
        return found


def _ended(picture: _Picture, record: RoundRecord) -> None:
    picture.opened_at = 0.0
    picture.rounds[record.state.value] += 1
    picture.model_bytes = record.sent.size_bytes
    if record.model is None:
        return
    picture.round = record.round
    picture.loss = mean_loss(record)
    picture.duration.add(record.duration_s)
    for step, seconds in record.timings.items():
        picture.steps[step.removesuffix("_s")].add(seconds)


def _series_of(one: _Picture) -> Iterator[tuple[str, tuple[str, ...], Value]]:
    """Yield name, further labels and value of each series of an experiment."""
    yield "warren_experiment_info", (one.name,), 1
    yield "warren_experiment_running", (), one.running
    yield "warren_experiment_round", (), one.round
    yield "warren_experiment_last_round", (), one.last
    yield "warren_round_opened_timestamp_seconds", (), one.opened_at
    yield "warren_round_duration_seconds", (), one.duration.value
    if one.loss is not None:
        yield "warren_experiment_loss", (), one.loss
    if one.model_bytes is not None:
        yield "warren_model_bytes", (), one.model_bytes
    for outcome in ("closed", "failed", "cancelled"):
        yield "warren_rounds", (outcome,), one.rounds[outcome]
    for step, seconds in one.steps.items():
        yield "warren_round_step_duration_seconds", (step,), seconds.value
    for node, loss in one.losses.items():
        yield "warren_node_loss", (node,), loss
    for key, value in one.metrics.items():
        yield "warren_node_metric", key, value
    for node in one.nodes:  # also of what has not happened: a rate needs a zero to begin from
        yield "warren_update_bytes", (node,), one.update_bytes[node]
        yield "warren_update_samples", (node,), one.samples[node]
        for outcome in Outcome:
            yield "warren_updates", (node, outcome.value), one.updates[node, outcome.value]
        for retried in ("true", "false"):
            yield "warren_tasks_lost", (node, retried), one.lost[node, retried]
