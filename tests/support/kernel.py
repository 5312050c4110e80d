"""Ask the kernel what it offers, without the product: a wall that fails to stand must fail its test and not skip it."""

import ctypes
import itertools
import os
import sys
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


OPEN_THE_WAY = """
set -e
mount --bind "$2" /mnt
mount -t tmpfs -o mode=755 none "$1"
mkdir -p "$2"
mount --bind /mnt "$2"
shift 2
exec "$@"
"""
"""Let others into the one folder below a closed one, in a view of the file system of its own."""


def with_python_for_all(command):
    """Return a command that finds the Python installation readable by every user, even if it lies in the home of root."""
    way = [*reversed(Path(sys.base_prefix).parents), Path(sys.base_prefix)]
    for closed, below in itertools.pairwise(way):
        if not closed.stat().st_mode & 0o001:
            return ["unshare", "--mount", "sh", "-c", OPEN_THE_WAY, "sh", str(closed), str(below), *command]
    return command
