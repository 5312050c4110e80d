"""Account for the CPU time and the memory of all processes of a measurement."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


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
