"""Name the files that every Python program of ours reads."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path
from typing import Final

import common
import node

_SYSTEM: Final = (
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64"),
    *("/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/openssl.cnf"),
)
_KERNEL: Final = (
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"),
    *("/dev/zero", "/dev/random", "/dev/urandom"),
)

SYSTEM_FILES: Final = tuple(Path(name) for name in (*_SYSTEM, *_KERNEL))
"""Shared libraries, time zones, and what libraries ask the kernel about the machine and the process itself."""

DRIVER_FILES: Final = tuple(map(Path, ("/proc/driver/nvidia", "/proc/devices")))
"""What the driver of a GPU tells about it; read where GPUs are offered."""

NULL: Final = Path("/dev/null")


def python_files() -> tuple[Path, ...]:
    """Return the folders of the standard library, of installed packages and of our own code.

    Never a folder above them: a checkout or a prefix may hold the home of a node, too.
    """
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    folders = [Path(prefix) / name for prefix in sorted(prefixes) for name in ("lib", "lib64")]
    installed = sysconfig.get_paths()
    folders += [Path(installed[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [Path(folder) for folder in site.getsitepackages()]
    folders += [Path(folder) for package in (common, node) for folder in package.__path__]
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))
