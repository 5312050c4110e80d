"""Measure how a node works, for Prometheus at its own hospital and, if its policy lets it, for the researchers."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from typing import Final, get_args

import psutil
from prometheus_client import Counter, Gauge, Histogram

from common import metrics
from common.ids import ExperimentId
from common.messages import LossPoint, NodeFigures, TaskTimings
from common.messages.figures import LaneName, TaskOutcome, TaskPhase
from node.worker.protocol import Done

_EXPERIMENTS: Final = 16
"""So many experiments have series of their own; a new one takes the place of the oldest."""

_COARSE_BYTES: Final = 64 * 1024**2
"""What a plan can make larger at will, memory and disk, is told in steps of this, and its processor time in seconds: it should say
how the machine does, and nothing about data."""

TASKS: Final = Counter(
    "warren_tasks_total",
    "Tasks that ended, by how, and with which error code if they failed",
    ["outcome", "code"],
    registry=metrics.REGISTRY,
)
OPEN_TASKS: Final = Gauge(
    "warren_open_tasks",
    "Tasks that have not ended: waiting for model or worker, running, or with an answer that the broker does not have",
    ["phase"],
    registry=metrics.REGISTRY,
)
TASK_RETRIES: Final = Counter(
    "warren_task_retries_total",
    "Tasks that were begun once more after the agent died in them",
    registry=metrics.REGISTRY,
)
TASK_STEPS: Final = Histogram(
    "warren_task_step_duration_seconds",
    "How long the steps of trained tasks took: waited, loaded, trained, validated, saved",
    ["step"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600),
    registry=metrics.REGISTRY,
)
TRAINING_LOSS: Final = Gauge(
    "warren_training_loss",
    "The last training loss of an experiment here; of the 16 newest experiments",
    ["experiment"],
    registry=metrics.REGISTRY,
)
TRAINING_SECONDS: Final = Counter(
    "warren_training_seconds_total",
    "How long tasks trained, on the processors (cpu) or on a GPU (gpu)",
    ["device"],
    registry=metrics.REGISTRY,
)
GPU_MEMORY: Final = Gauge(
    "warren_gpu_memory_peak_bytes",
    "Most memory of the GPU that the last task of an experiment here had at a time; of the 16 newest experiments that used one",
    ["experiment"],
    registry=metrics.REGISTRY,
)
WORKERS: Final = Gauge("warren_workers", "Worker processes that are alive", registry=metrics.REGISTRY)
WORKER_CPU: Final = Counter(
    "warren_worker_cpu_seconds_total",
    "Processor time of all workers, also of those that have ended",
    registry=metrics.REGISTRY,
)
WORKER_MEMORY: Final = Gauge(
    "warren_worker_resident_memory_bytes",
    "Memory of all workers, shared pages counted each time",
    registry=metrics.REGISTRY,
)
DISK_FLOOR: Final = Gauge(
    "warren_disk_floor_bytes", "Free space below which all tasks are stopped", registry=metrics.REGISTRY
)
PAUSED: Final = Gauge(
    "warren_paused", "Whether the agent waits for space on its disk", registry=metrics.REGISTRY
)
CHANGED_DATASETS: Final = Gauge(
    "warren_changed_datasets",
    "Watched data sets that changed and that nobody has looked at since",
    registry=metrics.REGISTRY,
)


class Figures:
    """Keeps the metrics above current. Used by the agent's thread only."""

    def __init__(self, *, expires_at: float, disk_floor_bytes: int) -> None:
        self._expires_at = expires_at
        self._disk_floor_bytes = disk_floor_bytes
        DISK_FLOOR.set(disk_floor_bytes)

    def measure(
        self, *, workers: Iterable[int], free_bytes: int, phases: dict[TaskPhase, int]
    ) -> NodeFigures:
        """Look at processes and disk, and return what there is to tell.

        Args:
            workers: Process ids of the workers.
            free_bytes: Space on the disk of the home.
            phases: How many tasks have not ended, by how far they have come.
        """
        alive = [one for pid in workers if (one := _use(pid)) is not None]
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = ended.ru_utime + ended.ru_stime + sum(cpu for cpu, _ in alive)
        WORKER_CPU.inc(max(0.0, cpu_s - metrics.values(WORKER_CPU)[""]))
        WORKERS.set(len(alive))
        WORKER_MEMORY.set(sum(memory for _, memory in alive))
        metrics.DISK_FREE.set(free_bytes)
        for phase, count in phases.items():
            OPEN_TASKS.labels(phase).set(count)
        agent_cpu_s, agent_memory = _use(None) or (0.0, 0)
        done, bytes_ = metrics.values(TASKS, "outcome"), _lane_bytes()
        return NodeFigures(
            tasks={outcome: int(done.get(outcome, 0)) for outcome in get_args(TaskOutcome)},
            open_tasks=phases,
            task_retries=_total(TASK_RETRIES),
            sent_bytes=bytes_["sent"],
            received_bytes=bytes_["received"],
            refused_messages=_total(metrics.REFUSED_MESSAGES),
            connections=_total(metrics.CONNECTIONS),
            cpu_s=agent_cpu_s,
            resident_bytes=agent_memory,
            workers=len(alive),
            worker_cpu_s=_coarse(metrics.values(WORKER_CPU)[""], 1),
            worker_resident_bytes=_coarse(sum(memory for _, memory in alive), _COARSE_BYTES),
            disk_free_bytes=_coarse(free_bytes, _COARSE_BYTES),
            disk_floor_bytes=self._disk_floor_bytes,
            certificate_expires_at=self._expires_at,
        )


class _Newest:
    """The values of a gauge for the newest experiments."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._children: dict[ExperimentId, Gauge] = {}

    def set(self, experiment: ExperimentId, value: float) -> None:
        """Show the value of an experiment, in the place of the oldest one if there are too many."""
        child = self._children.get(experiment)
        if child is None:
            if len(self._children) >= _EXPERIMENTS:
                oldest = next(iter(self._children))
                del self._children[oldest]
                self._gauge.remove(oldest)
            child = self._children[experiment] = self._gauge.labels(experiment)
        child.set(value)


_LOSSES: Final = _Newest(TRAINING_LOSS)
_MEMORY: Final = _Newest(GPU_MEMORY)
_STEPS: Final = {
    name: TASK_STEPS.labels(name.removesuffix("_s"))
    for name in TaskTimings.model_fields
    if name.endswith("_s")
}


def count_task(outcome: TaskOutcome, *, code: str = "") -> None:
    """Count a task that ended; codes come from the catalogue of errors."""
    TASKS.labels(outcome, code).inc()


def observe_steps(timings: TaskTimings) -> None:
    """Note how long the steps of a task took."""
    for name, step in _STEPS.items():
        step.observe(getattr(timings, name))


def note_losses(experiment: ExperimentId, losses: Iterable[LossPoint]) -> None:
    """Show the last of the losses as that of the experiment, and forget the oldest experiment if there are too many."""
    told = [point.loss for point in losses if point.loss is not None]
    if told:
        _LOSSES.set(experiment, told[-1])


def note_device(experiment: ExperimentId, done: Done) -> None:
    """Count how long a task trained and on what, and show how much memory of a GPU it had if it had one."""
    TRAINING_SECONDS.labels(done.device).inc(done.trained_s)
    if done.gpu_bytes is not None:
        _MEMORY.set(experiment, done.gpu_bytes)


def _use(pid: int | None) -> tuple[float, int] | None:
    """Return processor seconds and resident bytes of a process, this one if none is named; None if it has ended."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
    except psutil.Error:
        return None
    return times.user + times.system, memory.rss


def _coarse(value: float, unit: int) -> int:
    return int(value // unit) * unit


def _total(counter: Counter) -> int:
    return int(metrics.values(counter).get("", 0))


def _lane_bytes() -> dict[str, dict[LaneName, int]]:
    """Return the bytes of the lanes by direction."""
    samples = [one for family in metrics.MESSAGE_BYTES.collect() for one in family.samples]
    found: dict[str, dict[LaneName, int]] = {"sent": {}, "received": {}}
    for lane in get_args(LaneName):
        for direction, lanes in found.items():
            lanes[lane] = sum(
                int(one.value)
                for one in samples
                if one.labels["lane"] == lane and one.labels["direction"] == direction
            )
    return found
