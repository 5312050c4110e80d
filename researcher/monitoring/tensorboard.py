"""Show an experiment in TensorBoard: `tensorboard --logdir DIR` draws each node, and all together, as a line by rounds."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from common.clock import Clock, SystemClock
from researcher.history import NodeRecord, RoundRecord, mean_loss
from researcher.monitoring.event_file import EventFile
from researcher.monitoring.events import Event, RoundEnded, RunEnded, RunStarted, UpdateArrived
from researcher.round import RoundState

_GLOBAL: Final = "global"
_UNSAFE: Final = re.compile(r"[^\w-]+")
_SYSTEM: Final = SystemClock()


class TensorBoard:
    """An observer that writes scalars while an experiment runs, into `DIR/<experiment>/<node>` and `DIR/<experiment>/global`.

    The step of a scalar is its round. Each run adds files and changes none, so a resumed experiment goes on in its lines.
    """

    def __init__(self, folder: Path | str, *, clock: Clock = _SYSTEM) -> None:
        """Write below a folder, which is made if need be."""
        self._folder = Path(folder)
        self._clock = clock
        self._files: dict[str, EventFile] = {}
        self._place = self._folder

    def on_event(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case RunStarted(name=name, experiment=experiment):
                self._close()
                self._place = self._folder / f"{_UNSAFE.sub('-', name)}-{experiment[:8]}"
            case UpdateArrived(round=round_, record=record) if record.outcome == "accepted":
                self._write(record.node, _of_node(record), round_)
            case RoundEnded(record=record) if record.state is RoundState.CLOSED:
                self._write(_GLOBAL, _of_round(record), record.round)
            case RunEnded():
                self._close()
            case _:
                pass

    def _write(self, line: str, scalars: Mapping[str, float], round_: int) -> None:
        if not scalars:
            return
        if line not in self._files:
            folder = self._place / line
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
            self._files[line] = EventFile(path, at=self._clock.now())
        self._files[line].add(scalars, step=round_, at=self._clock.now())

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}


def _of_node(record: NodeRecord) -> dict[str, float]:
    timings = {} if record.timings is None else record.timings.model_dump(exclude={"received_at"})
    told = {
        "loss": record.loss,
        **{f"metrics/{name}": value for name, value in record.metrics.items()},
        "samples": float(record.samples_seen),
        "update_bytes": float(record.update_bytes),
        "seconds/answered": record.answered_s,
        **{f"seconds/{name.removesuffix('_s')}": value for name, value in timings.items()},
    }
    return {name: value for name, value in told.items() if value is not None}


def _of_round(record: RoundRecord) -> dict[str, float]:
    accepted = [node for node in record.nodes.values() if node.outcome == "accepted"]
    told = {
        "loss": mean_loss(record),
        **_mean_metrics(accepted),
        "samples": float(sum(node.samples_seen for node in accepted)),
        "update_bytes": float(sum(node.update_bytes for node in accepted)),
        "nodes": float(len(accepted)),
        "seconds/round": record.duration_s,
        **{f"seconds/{name.removesuffix('_s')}": value for name, value in record.timings.items()},
    }
    return {name: value for name, value in told.items() if value is not None}


def _mean_metrics(nodes: list[NodeRecord]) -> dict[str, float]:
    """Return each metric as the mean over the nodes that told it, weighted by the samples that it was measured on."""
    sums: dict[str, tuple[float, int]] = {}
    for node in nodes:
        for one in node.validations:
            for name, value in one.metrics.items():
                if value is not None:
                    total, samples = sums.get(f"metrics/{one.on}_{name}", (0.0, 0))
                    sums[f"metrics/{one.on}_{name}"] = (total + value * one.samples, samples + one.samples)
    return {name: total / samples for name, (total, samples) in sums.items() if samples}
