"""Call the C library where Python has no function for it."""

from __future__ import annotations

import ctypes
import os
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38

Argument = int | ctypes.Array[ctypes.c_char] | bytes | None


def prctl(option: int, *arguments: Argument) -> int:
    """Change something about the calling process or thread.

    Raises:
        OSError: If the kernel refuses.
    """
    return _checked(LIBC.prctl(ctypes.c_int(option), *_padded(arguments, 4)))


def syscall(number: int, *arguments: Argument) -> int:
    """Call a system call by its number.

    Raises:
        OSError: If the kernel refuses.
    """
    return _checked(LIBC.syscall(ctypes.c_long(number), *_padded(arguments, 6)))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones.

    Raises:
        OSError: If the kernel refuses.
    """
    _checked(LIBC.unshare(ctypes.c_int(flags)))


def _padded(arguments: tuple[Argument, ...], count: int) -> list[object]:
    """Return arguments as wide as a register; the kernel insists that unused ones are zero."""
    wide: list[object] = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return wide + [ctypes.c_long(0)] * (count - len(wide))


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
