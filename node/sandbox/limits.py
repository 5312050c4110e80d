"""Bound what the process may use up."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

_CPU_GRACE_S: Final = 5


def limit_memory(size_bytes: int) -> None:
    """Bound the private memory that the process may write to, and let the kernel choose it first when the machine runs out.

    The address space as a whole is not bounded: torch, and GPUs much more, reserve far more of it than they ever use.

    Raises:
        OSError: If the kernel refuses.
    """
    _limit(resource.RLIMIT_DATA, size_bytes)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def limit_cpu(seconds: int) -> None:
    """Bound the CPU seconds: SIGXCPU, which a plan can ignore, and SIGKILL a little later, which it cannot.

    Raises:
        OSError: If the kernel refuses.
    """
    _limit(resource.RLIMIT_CPU, seconds, grace=_CPU_GRACE_S)


def limit_file_size(size_bytes: int) -> None:
    """Bound each file; Python ignores the signal, so writing beyond raises OSError.

    Raises:
        OSError: If the kernel refuses.
    """
    _limit(resource.RLIMIT_FSIZE, size_bytes)


def limit_threads(count: int) -> None:
    """Bound the threads; the kernel counts them for each user and user namespace, and never counts root's.

    Raises:
        OSError: If the kernel refuses.
    """
    _limit(resource.RLIMIT_NPROC, count)


def limit_rest(open_files: int) -> None:
    """Bound open files, and allow neither core files, which hold the data, nor real-time priority.

    Raises:
        OSError: If the kernel refuses.
    """
    _limit(resource.RLIMIT_NOFILE, open_files)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_RTPRIO, 0)


def _limit(kind: int, value: int, *, grace: int = 0) -> None:
    """Set both limits, never above the one in force: raising it would need a privilege."""
    _, ceiling = resource.getrlimit(kind)
    hard = value + grace if ceiling == resource.RLIM_INFINITY else min(value + grace, ceiling)
    resource.setrlimit(kind, (min(value, hard), hard))
