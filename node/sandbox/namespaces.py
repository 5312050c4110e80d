"""Leave the machine's network for an empty one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from node.sandbox.libc import PR_SET_DUMPABLE, prctl, unshare

_NEW_USER: Final = 0x1000_0000
_NEW_NETWORK: Final = 0x4000_0000
_SELF: Final = Path("/proc/self")


def new_network() -> None:
    """Move the process into a network without any interface that is up.

    Needs CAP_SYS_ADMIN, and no other threads.

    Raises:
        OSError: If the kernel refuses.
    """
    unshare(_NEW_NETWORK)


def new_user_namespace(*, network: bool) -> None:
    """Move the process into a user namespace of its own, in which it keeps its ids; with an empty network if asked for.

    Needs no privilege, but some systems refuse it to plain users. No other threads may run.

    Raises:
        OSError: If the kernel refuses.
    """
    uid, gid = os.geteuid(), os.getegid()
    prctl(PR_SET_DUMPABLE, 1)  # else the maps belong to root
    unshare(_NEW_USER | (_NEW_NETWORK if network else 0))
    (_SELF / "setgroups").write_text("deny", encoding="ascii")
    (_SELF / "uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    (_SELF / "gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
