"""Give up every privilege, hide from others, and end with the agent."""

from __future__ import annotations

import os
import signal
import struct
from typing import Final

from node.sandbox.libc import LIBC, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl

_CAPABILITY_VERSION: Final = 0x2008_0522


def forgo_new_privileges() -> None:
    """Make set-user-id programs and file capabilities void for this process; plain users may use Landlock and seccomp only then.

    Raises:
        OSError: If the kernel refuses.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up all capabilities of the calling thread.

    Raises:
        OSError: If the kernel refuses.
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    if LIBC.capset(header, bytes(24)) != 0:
        raise OSError("capset failed")


def hide() -> None:
    """Keep processes of the same user from tracing this one, and from reading its memory and environment.

    Raises:
        OSError: If the kernel refuses.
    """
    prctl(PR_SET_DUMPABLE, 0)


def end_with(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends.

    Changes of user or of capabilities undo this, so it comes after them.

    Raises:
        OSError: If the kernel refuses.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        signal.raise_signal(signal.SIGKILL)
