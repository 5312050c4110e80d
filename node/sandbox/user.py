"""Give workers a user of their own, where the agent may switch."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from common.errors import ProtectionMissingError
from node.sandbox.policy import ProtectionName, WorkerUser


def worker_user(name: str) -> WorkerUser:
    """Return the account that workers are to run as.

    Raises:
        ProtectionMissingError: If there is no such account, or it is root's.
    """
    try:
        account = pwd.getpwnam(name)
    except KeyError as error:
        raise ProtectionMissingError(
            protection=ProtectionName.OWN_USER,
            reason=f"there is no account {name!r}",
            advice=f"create it: useradd --system --no-create-home --shell /usr/sbin/nologin {name}",
        ) from error
    if 0 in (account.pw_uid, account.pw_gid):
        raise ProtectionMissingError(
            protection=ProtectionName.OWN_USER,
            reason=f"the account {name!r} is root's",
            advice="name an account without privileges",
        )
    return WorkerUser(uid=account.pw_uid, gid=account.pw_gid)


def hand_over(folder: Path, user: WorkerUser) -> None:
    """Make an empty scratch folder the property of the workers' user.

    Raises:
        OSError: If the agent may not.
    """
    os.chown(folder, user.uid, user.gid, follow_symlinks=False)


def unreachable(user: WorkerUser, readable: Sequence[Path], writable: Path) -> Path | None:
    """Return the first path that a user could not use, or None; leaves the process without supplementary groups.

    Raises:
        OSError: If the process may not switch.
    """
    own_uid, own_gid = os.geteuid(), os.getegid()
    os.setgroups([])
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        for path in readable:
            if not os.access(path, os.R_OK, effective_ids=True):
                return path
        needed = os.R_OK | os.W_OK | os.X_OK
        return None if os.access(writable, needed, effective_ids=True) else writable
    finally:
        os.seteuid(own_uid)
        os.setegid(own_gid)


def become(user: WorkerUser) -> None:
    """Become a user for good, and lose every capability with that.

    Raises:
        OSError: If the process may not.
    """
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
