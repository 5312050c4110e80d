"""Put up the walls around the calling process, for good."""

from __future__ import annotations

import os
import site
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from common.errors import ProtectionMissingError
from node.sandbox import landlock, limits, namespaces, privileges, seccomp, user
from node.sandbox.paths import DRIVER_FILES, NULL, SYSTEM_FILES, python_files
from node.sandbox.policy import Protection, ProtectionName, Protections, SandboxPolicy, WorkerUser, exposed

_LIMIT_REMEDY: Final = "set a bound, not above the one that the agent itself was started with"
_NAMESPACE_REMEDY: Final = (
    "let plain users make user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns); in a container, its seccomp profile must allow unshare"
)
_REMEDIES: Final = {
    ProtectionName.SYSTEM_CALLS: "use Linux 3.17 or later on x86_64 or aarch64, built with seccomp",
    ProtectionName.FILES: "use Linux 5.13 or later with landlock among its security modules (boot option lsm=)",
    ProtectionName.NETWORK: _NAMESPACE_REMEDY,
    ProtectionName.PRIVILEGES: "in a container, its seccomp profile must allow capset and prctl",
    ProtectionName.OWN_USER: "run the agent as root, and name a user that can read the installation and the data",
    ProtectionName.MEMORY: _LIMIT_REMEDY,
    ProtectionName.CPU_TIME: _LIMIT_REMEDY,
    ProtectionName.FILE_SIZE: _LIMIT_REMEDY,
    ProtectionName.THREADS: f"do not let workers run as root; {_NAMESPACE_REMEDY}",
}


class _NoWallError(Exception):
    """A wall cannot stand here, for a reason that the kernel does not tell."""


def confine(policy: SandboxPolicy) -> Protections:
    """Put up every wall that this machine offers around the calling process; nothing takes them down again.

    Call it before anything starts a thread: most walls bind threads one by one, and a thread that is older than they are would
    stay outside. numpy, polars and torch start threads when they are imported, so import them afterwards; what they need from the
    disk stays readable. The process must not run the code of others if this raises: some walls may stand, others not.

    Args:
        policy: What to allow.

    Returns:
        What stands; the walls around files and system calls were tried, not only asked for.

    Raises:
        ProtectionMissingError: If other threads run, if Python would import from the scratch folder, if a readable folder contains
            a hidden one, or if a compulsory wall does not stand.
    """
    _refuse_threads()
    _refuse_planted_modules(policy.scratch)
    readable = (*python_files(), *policy.read_only)
    _refuse_exposure((*readable, *SYSTEM_FILES, policy.scratch), policy.hidden)
    bounds = policy.limits
    limits.limit_rest(bounds.open_files)
    plain = os.geteuid() != 0
    # The order matters: namespaces and users need privileges, which go next; a change of user would undo `end_with`; the filter
    # of system calls comes last, because everything before needs some of them.
    network = _wall(ProtectionName.NETWORK, partial(_own_network, plain=plain))
    protections = Protections.collect(
        [
            network,
            _wall(ProtectionName.MEMORY, partial(_bound, limits.limit_memory, bounds.memory_bytes, "bytes")),
            _wall(ProtectionName.CPU_TIME, partial(_bound, limits.limit_cpu, bounds.cpu_s, "s")),
            _wall(
                ProtectionName.FILE_SIZE, partial(_bound, limits.limit_file_size, bounds.file_bytes, "bytes")
            ),
            _wall(ProtectionName.OWN_USER, partial(_own_user, policy.user, readable, policy.scratch)),
            _wall(
                ProtectionName.THREADS,
                partial(_threads, bounds.threads, in_namespace=plain and network.active),
            ),
            _wall(ProtectionName.PRIVILEGES, partial(_privileges, policy.agent_pid)),
            _wall(ProtectionName.FILES, partial(_files, readable, policy.scratch, policy.devices)),
            _wall(ProtectionName.SYSTEM_CALLS, _system_calls),
        ]
    )
    protections.require(policy.compulsory)
    return protections


def _refuse_threads() -> None:
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise ProtectionMissingError(
            protection="any",
            reason="other threads run already and would stay outside",
            advice="call confine before anything that starts threads is imported",
        )


def _refuse_planted_modules(scratch: Path) -> None:
    """Insist that Python looks for no module in the scratch folder: what one worker left there would run in the next, outside."""
    places = [Path(entry) for entry in sys.path if entry == "" or entry.startswith("/")]
    if site.ENABLE_USER_SITE:
        places.append(Path(site.getusersitepackages()))
    if any(place.resolve().is_relative_to(scratch.resolve()) for place in places):
        raise ProtectionMissingError(
            protection=ProtectionName.FILES,
            reason="python imports from the scratch folder",
            advice="start the worker with the options -P and -s",
        )


def _refuse_exposure(readable: Sequence[Path], hidden: Sequence[Path]) -> None:
    if (found := exposed(readable, hidden)) is not None:
        raise ProtectionMissingError(
            protection=ProtectionName.FILES,
            reason=f"{found[0]} is readable to workers and contains {found[1]}",
            advice="move the data or the home of the node, so that the data does not contain the home",
        )


def _wall(name: ProtectionName, build: Callable[[], str]) -> Protection:
    """Build one wall; `build` returns how it stands."""
    try:
        return Protection(name=name, active=True, detail=build())
    except _NoWallError as error:
        reason = str(error)
    except OSError as error:
        reason = f"the system refuses: {error.strerror}"
    return Protection(name=name, active=False, detail=reason, remedy=_REMEDIES[name])


def _own_network(*, plain: bool) -> str:
    if plain:
        namespaces.new_user_namespace(network=True)
    else:
        namespaces.new_network()
    return "an empty network namespace"


def _own_user(chosen: WorkerUser | None, readable: Sequence[Path], scratch: Path) -> str:
    if chosen is None:
        raise _NoWallError("no user is named")
    if (path := user.unreachable(chosen, readable, scratch)) is not None:
        raise _NoWallError(f"user {chosen.uid} has no access to {path}")
    user.become(chosen)
    return f"user {chosen.uid}, group {chosen.gid}"


def _threads(count: int | None, *, in_namespace: bool) -> str:
    """Bound the threads where nobody else's count: in a user namespace of its own, and not as root."""
    if os.geteuid() == 0:
        raise _NoWallError("the kernel does not count the threads of root")
    if count is not None and not in_namespace:
        namespaces.new_user_namespace(network=False)
    return _bound(limits.limit_threads, count, "threads")


def _bound(limit: Callable[[int], None], value: int | None, unit: str) -> str:
    if value is None:
        raise _NoWallError("no bound is set")
    limit(value)
    return f"{value} {unit}"


def _privileges(agent_pid: int) -> str:
    privileges.forgo_new_privileges()
    privileges.drop_capabilities()
    privileges.hide()
    privileges.end_with(agent_pid)
    return "no capabilities, no new privileges, hidden from other processes, ends with the agent"


def _files(readable: Sequence[Path], scratch: Path, devices: Sequence[Path]) -> str:
    drivers = DRIVER_FILES if devices else ()
    abi = landlock.restrict(
        [
            *((path, landlock.READ) for path in (*readable, *SYSTEM_FILES, *drivers)),
            *((path, landlock.DEVICE) for path in devices),
            (scratch, landlock.WRITE),
            (NULL, landlock.READ_FILE | landlock.WRITE_FILE),
        ]
    )
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))
    except PermissionError:
        return f"Landlock, version {abi}"
    raise _NoWallError("the kernel does not keep its own rules")


def _system_calls() -> str:
    if (machine := seccomp.machine()) is None:
        raise _NoWallError("there is no list of system calls for this kind of machine")
    seccomp.install(seccomp.assemble(machine, os.getpid()))
    try:
        ends = socket.socketpair()
    except PermissionError:
        return f"a seccomp filter for {machine}"
    for end in ends:
        end.close()
    raise _NoWallError("the kernel does not keep its own filter")
