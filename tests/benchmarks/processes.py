"""Account for the CPU time and the memory of all processes of a measurement."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.support.world import World

_STATISTICS_S: Final = 5.5
"""The broker counts anew every 5 s."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds and peak resident memory of one group of processes."""

    cpu_s: float
    peak_rss_mb: float


def kind_of(process: psutil.Process) -> str:
    """Return which part of Warren a process is."""
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return "gone"
    for sign, kind in (
        ("node.worker.child", "worker"),
        ("deploy.demo.agents", "agent"),
        ("tests.benchmarks.bare", "agent"),
        ("tests.benchmarks.crowd", "crowd"),
        ("beam.smp", "broker"),
        ("epmd", "broker"),
    ):
        if sign in command:
            return kind
    return "other"


def snapshot() -> dict[str, dict[int, Usage]]:
    """Return what this process and each of its descendants has used so far, by kind and process id."""
    me = psutil.Process()
    found: dict[str, dict[int, Usage]] = {"researcher": {me.pid: _usage(me)}}
    for process in me.children(recursive=True):
        try:
            found.setdefault(kind_of(process), {})[process.pid] = _usage(process)
        except psutil.Error:
            continue
    return found


def cpu_between(before: dict[str, dict[int, Usage]], after: dict[str, dict[int, Usage]]) -> dict[str, float]:
    """Return the CPU seconds that each kind used between two snapshots."""
    return {
        kind: sum(
            usage.cpu_s - (before.get(kind, {}).get(pid) or Usage(0, 0)).cpu_s
            for pid, usage in processes.items()
        )
        for kind, processes in after.items()
    }


def peaks(found: dict[str, dict[int, Usage]]) -> dict[str, float]:
    """Return the highest peak memory of a process of each kind, in MB."""
    return {kind: max(usage.peak_rss_mb for usage in processes.values()) for kind, processes in found.items()}


def _usage(process: psutil.Process) -> Usage:
    times = process.cpu_times()
    return Usage(times.user + times.system, _peak(process.pid))


def _peak(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123 - a kernel file
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


@dataclass(frozen=True)
class Used:
    """What each kind of process used between two moments; memory is that of the one that needed most, in MB."""

    cpu_s: dict[str, float]
    idle_mb: dict[str, float]
    peak_mb: dict[str, float]
    added_mb: dict[str, float]


class Watch:
    """Counts CPU time and peak memory of this process and its descendants from now on."""

    def __init__(self) -> None:
        self._before = snapshot()
        self._idle = {
            kind: {pid: _reset_peak(pid) for pid in processes} for kind, processes in self._before.items()
        }

    def read(self) -> Used:
        """Return what was used since the watch was made."""
        after = snapshot()
        added = {
            kind: max(
                usage.peak_rss_mb - self._idle.get(kind, {}).get(pid, 0.0) for pid, usage in processes.items()
            )
            for kind, processes in after.items()
        }
        idle = {kind: max(processes.values()) for kind, processes in self._idle.items()}
        return Used(cpu_between(self._before, after), idle, peaks(after), added)


def _reset_peak(pid: int) -> float:
    """Let the kernel count the peak memory of a process anew, and return what it holds now, in MB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return psutil.Process(pid).memory_info().rss / 1024**2


def wire_bytes(world: World) -> int:
    """Return how many bytes the broker has received and sent, on all connections that are open, TLS included."""
    threading.Event().wait(_STATISTICS_S)
    admin = world.broker.endpoint.admin(world.federation.settings.vhost)
    found = admin._call("GET", "connections", query="columns=recv_oct,send_oct")
    return sum(one["recv_oct"] + one["send_oct"] for one in found)
