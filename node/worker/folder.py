"""Keep what the agent and the worker of one run share on disk.

work/<run>/
    in/       the plan, and the model if it is large; the worker reads them
    scratch/  the only folder that the worker may write to; its update appears here if it is large
    *         the agent's own copies of what it took from there

A worker runs the code of others, so nothing in `scratch` is trusted: it is opened without following links, bounded, and
copied before it is believed, for the worker may still hold it open.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import TaskRefusedError, WorkerFaultError
from common.ids import PartyId
from common.payload.header import Content
from common.sqlite import storage_errors
from node.sandbox import WorkerUser, hand_over, remove_scratch
from node.worker.protocol import HANDED_BYTES

_COPY_BYTES: Final = 64 * 1024 * 1024
_NO_RANGE_COPY: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""How file systems say that they cannot copy within the kernel."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: The folder itself; only the agent writes to it.
        user: Who workers are, if not the agent's own user; the agent must be root then.
    """

    path: Path
    user: WorkerUser | None = None

    @property
    def inputs(self) -> Path:
        """Return the folder that the worker may read."""
        return self.path / "in"

    @property
    def scratch(self) -> Path:
        """Return the folder that the worker may write to."""
        return self.path / "scratch"

    def make(self) -> None:
        """Make it anew, without anything that an earlier worker left."""
        remove_scratch(self.path)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.path, self.inputs, self.scratch):
            folder.mkdir(mode=0o700)
        if self.user is not None:
            for folder in (self.path, self.inputs):
                let_in(folder, self.user)
            hand_over(self.scratch, self.user)

    def handed(self, name: str, content: Content) -> Content:
        """Return what a worker is given: bytes that cross its socket, or else the path of a file; see `place`."""
        few = isinstance(content, bytes) and len(content) <= HANDED_BYTES
        return content if few else self.place(name, content)

    def place(self, name: str, content: Content) -> Path:
        """Give the worker bytes, or a file that never changes, under a name; return its path.

        Each one is another inode: the worker may have the last one of that name mapped.
        """
        path = self.inputs / name
        path.unlink(missing_ok=True)  # and not renamed over: some file systems write a file to disk then
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            try:
                path.hardlink_to(content)
            except OSError:  # not every file system has links; whatever else is wrong, copying meets it too
                shutil.copyfile(content, path)
        self._show(path)
        return path

    def keep(self, name: str, content: bytes) -> Path:
        """Give the worker bytes under a name that always means these bytes, unless it has them; return the path."""
        path = self.inputs / name
        return path if os.path.exists(path) else self.place(name, content)  # noqa: PTH110 - in every round

    def take(self, name: str, node: PartyId, limit_bytes: int) -> Path:
        """Copy a file of the worker to where the worker cannot change it, and remove the original; return the copy.

        Raises:
            WorkerFaultError: If there is none, or it is no regular file.
            TaskRefusedError: If it is larger than the node allows.
            DiskFullError: If there is no space for the copy.
        """
        original, copy = self.scratch / name, self.path / name
        try:
            descriptor = os.open(original, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise WorkerFaultError(error_type=type(error).__name__) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise WorkerFaultError(error_type="an update that is no file")
            bound(status.st_size, node, limit_bytes)
            copy.unlink(missing_ok=True)  # and not written over: some file systems write a file to disk then
            with storage_errors(copy), copy.open("wb") as target:
                os.fchmod(target.fileno(), stat.S_IRUSR | stat.S_IWUSR)
                _copy(descriptor, target.fileno(), status.st_size)
        finally:
            os.close(descriptor)
        original.unlink(missing_ok=True)
        return copy

    def _show(self, file: Path) -> None:
        if self.user is not None:
            os.chown(file, -1, self.user.gid)
            file.chmod(0o640)


def bound(size_bytes: int, node: PartyId, limit_bytes: int) -> None:
    """Refuse what is larger than the node allows.

    Raises:
        TaskRefusedError: If it is.
    """
    if size_bytes > limit_bytes:
        reason = f"an update of {size_bytes} bytes exceeds its limit of {limit_bytes}"
        raise TaskRefusedError(node=node, reason=reason)


def let_in(folder: Path, user: WorkerUser) -> None:
    """Let the workers' user into a folder, to read it.

    Raises:
        OSError: If the agent may not.
    """
    os.chown(folder, -1, user.gid)
    folder.chmod(0o750)


def _copy(source: int, target: int, size: int) -> None:
    """Copy that many bytes, or fewer if the file has become shorter; file systems that can, share the blocks."""
    done = 0
    while done < size:
        count = min(size - done, _COPY_BYTES)
        try:
            copied = os.copy_file_range(source, target, count, done, done)
        except OSError as error:
            if error.errno not in _NO_RANGE_COPY:
                raise
            os.lseek(target, done, os.SEEK_SET)
            copied = os.sendfile(target, source, done, count)
        if copied == 0:
            return
        done += copied
