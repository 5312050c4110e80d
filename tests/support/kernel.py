"""Ask the kernel what it offers, without the product: a wall that fails to stand must fail its test and not skip it."""

import ctypes
import os
from pathlib import Path

from node.sandbox import ProtectionName

_LANDLOCK_CREATE_RULESET = 444
_VERSION = 1


def offers(protection: ProtectionName, *, root: bool = os.geteuid() == 0) -> bool:
    """Tell whether this kernel can put up a wall around a process of root or of a plain user."""
    match protection:
        case ProtectionName.FILES:
            return ctypes.CDLL(None).syscall(_LANDLOCK_CREATE_RULESET, None, 0, _VERSION) > 0
        case ProtectionName.SYSTEM_CALLS:
            return Path("/proc/sys/kernel/seccomp/actions_avail").exists()
        case ProtectionName.THREADS:
            return not root  # the kernel does not count the threads of root
        case _:
            return True
