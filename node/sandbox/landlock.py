"""Confine the calling thread, and all it starts, to some files: Landlock, Linux 5.13 and later.

Every right that the running kernel knows is taken away, then some are given back below some paths. What is not a right cannot be
taken away: names, sizes and times of files whose path is known stay visible, and `syscalls` stops what would change them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Final

from node.sandbox.libc import syscall

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
REMOVE_DIR: Final = 1 << 4
REMOVE_FILE: Final = 1 << 5
MAKE_DIR: Final = 1 << 7
MAKE_REG: Final = 1 << 8
REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15

READ: Final = READ_FILE | READ_DIR
WRITE: Final = READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER
"""No right to execute and none to make links, pipes, sockets or devices: the agent walks these folders later."""

DEVICE: Final = READ_FILE | WRITE_FILE | IOCTL_DEV

_FILE_RIGHTS: Final = WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_NETWORK: Final = 0b11
"""TCP: bind, connect."""
_SCOPES: Final = 0b11
"""Abstract unix sockets and signals."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What a version of Landlock can take away, as bits of the kernel."""

    files: int
    network: int
    scopes: int


def handled(abi: int) -> Handled:
    """Return everything that a version of Landlock can take away."""
    files = (1 << 13) - 1
    if abi >= 2:
        files |= REFER
    if abi >= 3:
        files |= TRUNCATE
    if abi >= 5:
        files |= IOCTL_DEV
    return Handled(files, _NETWORK if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)


def landlock_abi() -> int:
    """Return the version of Landlock that the running kernel has.

    Raises:
        OSError: If it has none: ENOSYS if it was built without, EOPNOTSUPP if it was started without.
    """
    return syscall(_CREATE_RULESET, None, 0, _VERSION)


def restrict(rights: Iterable[tuple[Path, int]]) -> int:
    """Confine the calling thread to these paths with these rights; return the version of Landlock.

    A path that does not exist is left out. `no_new_privs` must be set.

    Raises:
        OSError: If the kernel refuses; the thread is then as free as before.
    """
    abi = landlock_abi()
    all_rights = handled(abi)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    attributes = struct.pack("=QQQ", all_rights.files, all_rights.network, all_rights.scopes)
    ruleset = syscall(_CREATE_RULESET, attributes, size)
    try:
        for path, wanted in rights:
            _allow(ruleset, path, wanted & all_rights.files)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: Path, wanted: int) -> None:
    try:
        anchor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not S_ISDIR(os.fstat(anchor).st_mode):
            wanted &= _FILE_RIGHTS
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", wanted, anchor))
    finally:
        os.close(anchor)
