"""State which walls are asked for, and which of them stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from common.errors import ProtectionMissingError
from common.settings import Settings


class ProtectionName(StrEnum):
    """The walls around a worker; the policy of a node names the compulsory ones by these words."""

    SYSTEM_CALLS = "system_calls"
    """No sockets, no new processes, no signals to others, no tracing, no mounts, no kernel interfaces (seccomp)."""
    FILES = "files"
    """Only the data set, the inputs and the Python installation can be read, only the scratch folder written (Landlock)."""
    NETWORK = "network"
    """An empty network of its own (network namespace)."""
    PRIVILEGES = "privileges"
    """No capabilities and no way to get any; hidden from processes of the same user; ends with the agent."""
    OWN_USER = "own_user"
    """Another user than the agent's."""
    MEMORY = "memory"
    """A bound on its own memory; and it is the first to go when the machine runs out."""
    CPU_TIME = "cpu_time"
    """A bound on the CPU seconds of the whole process."""
    FILE_SIZE = "file_size"
    """A bound on each file that it writes."""
    THREADS = "threads"
    """A bound on the number of its threads."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is not absolute")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Bound = Annotated[int, Field(gt=0, lt=2**63)]


class Limits(Settings):
    """What one worker may use up; None leaves it unlimited."""

    memory_bytes: Bound | None = None
    """Private memory that it may write to: heap, tensors, stacks. Libraries and files that it maps to read do not count."""
    cpu_s: Bound | None = None
    """CPU seconds of all its threads, over all tasks of a warm worker. SIGXCPU ends it, SIGKILL 5 s later."""
    file_bytes: Bound | None = None
    """Largest file."""
    threads: Bound | None = None
    open_files: Bound = 1024


class WorkerUser(Settings):
    """The user that a worker becomes; it has no other groups."""

    uid: Annotated[int, Field(gt=0, lt=2**32 - 1)]
    gid: Annotated[int, Field(gt=0, lt=2**32 - 1)]


class SandboxPolicy(Settings):
    """What one worker may do, decided by the agent before it starts the worker."""

    agent_pid: Annotated[int, Field(gt=0)]
    """The worker's parent; the worker ends with it."""
    scratch: AbsolutePath
    """The one folder that it may write to. Links, devices, pipes and sockets cannot be made in it."""
    read_only: tuple[AbsolutePath, ...] = ()
    """The data set and the folder of inputs, beside the Python installation."""
    devices: tuple[AbsolutePath, ...] = ()
    """Device files that it may read, write and control: those of the GPUs that the node offers."""
    hidden: tuple[AbsolutePath, ...] = ()
    """What must never become readable: the home of the node. A readable folder that contains one of these is refused."""
    limits: Limits = Limits()
    user: WorkerUser | None = None
    compulsory: frozenset[ProtectionName] = frozenset()
    """The worker does not run without these."""


class Protection(Settings):
    """One wall: whether it stands, and how or why not."""

    name: ProtectionName
    active: bool
    detail: str
    """How it is made; why it is missing, if it is."""
    remedy: str = ""
    """What the people of the node can do about a missing one."""


class Protections(Settings):
    """All walls, in the order of their names' definition."""

    items: tuple[Protection, ...]

    @classmethod
    def collect(cls, found: Iterable[Protection]) -> Protections:
        """Return a report of these walls; every name must occur once."""
        by_name = {protection.name: protection for protection in found}
        return cls(items=tuple(by_name[name] for name in ProtectionName))

    def __getitem__(self, name: ProtectionName) -> Protection:
        return next(protection for protection in self.items if protection.name is name)

    def missing(self, compulsory: Collection[ProtectionName]) -> tuple[Protection, ...]:
        """Return the walls among these names that do not stand."""
        return tuple(item for item in self.items if item.name in compulsory and not item.active)

    def require(self, compulsory: Collection[ProtectionName]) -> None:
        """Insist on some walls.

        Raises:
            ProtectionMissingError: If one of them does not stand; names the first.
        """
        for protection in self.missing(compulsory):
            raise ProtectionMissingError(
                protection=protection.name, reason=protection.detail, advice=protection.remedy
            )


def exposed(readable: Iterable[Path], hidden: Iterable[Path]) -> tuple[Path, Path] | None:
    """Return the first readable path that contains, or is, a hidden one; with that one."""
    secrets = [path.resolve() for path in hidden]
    for path in readable:
        place = path.resolve()
        for secret in secrets:
            if secret.is_relative_to(place):
                return path, secret
    return None
