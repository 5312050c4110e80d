"""Keep memory that was freed a moment ago, instead of giving it back to the kernel at once."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD of malloc.h
_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD
_KEPT_BYTES: Final = 16 * 1024 * 1024
_LARGE_BYTES: Final = 4 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let this process keep up to 16 MiB of freed memory per thread; what is larger than 4 MiB still goes back at once.

    By itself glibc returns the memory of each message of 1 MiB after use and gets it again, cleared by the kernel, for the
    next: a third of the CPU time of a transfer. Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
        set_option(_MMAP_THRESHOLD, _LARGE_BYTES)
