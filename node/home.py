"""Keep everything of one node in one folder.

kit/             certificate, key, roster and connection settings; readable by the owner only
policy.toml        what the people of the node allow; it marks the folder as a home
registry.sqlite  data sets, and decisions about plans
journal.sqlite   tasks: what was received, done and sent
payloads/        models, updates and states of tasks, named by their SHA-256
work/            scratch space of workers
log/             what happened
enrolment/       keys that the federation has not signed for yet
audit/           who asked what, who decided what, what left; see `common.audit`
audit.anchor     where that log ends
agent.lock       held by the running agent
status.json      what the agent said about itself last
gui.sqlite       who may use the web page, and who does
gui.link         the link that sets the page up, until somebody used it
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.audit.log import AuditLog
from common.audit.syslog import Forwarder
from common.errors import HomeError, HomeInUseError, InvalidSettingsError, KitError
from common.security.enrolment import FOLDER
from common.security.kit import Kit, install_kit
from common.settings import Connection, load_toml
from common.sqlite import storage_errors
from node.policy import Policy

log = logging.getLogger(__name__)

_FLOCK: Final = "hhqqi4x"
"""`struct flock` of Linux: type, whence, start, length, pid."""


@dataclass(frozen=True, slots=True)
class NodeHome:
    """The folder of one node; `create` makes one, `open` finds one."""

    path: Path

    @classmethod
    def create(cls, path: Path, kit_path: Path, *, now: float | None = None) -> NodeHome:
        """Make a home from a kit, or put a renewed kit into the home of the same party.

        The kit is checked before anything is written, and copied: the original is not needed any more.

        Args:
            path: A folder that is empty, does not exist yet, or is a home of this party.
            kit_path: The kit, as the federation operator handed it out.
            now: Unix time at which its certificate must be valid; the current time if not given.

        Raises:
            KitError: If it is incomplete, inconsistent, or not the kit of a node.
            CertificateExpiredError: If its certificate has expired.
            HomeError: If the folder holds something else, or the home of another party.
            HomeInUseError: If an agent runs in it.
            DiskFullError: If there is no space.
        """
        kit = Kit.load(kit_path, now=time.time() if now is None else now)
        if kit.connection.role != "node":
            raise KitError(path=kit_path, reason=f"it is the kit of a {kit.connection.role}, not of a node")
        home = cls(path.absolute())
        home._refuse_strangers(kit.connection)
        with _home_errors(home.path), storage_errors(home.path):
            home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not home.settings_path.exists():
                home.settings_path.write_text(Policy.template(), encoding="utf-8")
            for folder in (home.payloads, home.work, home.log):
                folder.mkdir(mode=0o700, exist_ok=True)
            with home.lock():
                install_kit(kit_path, home.kit_path)
        return home

    @classmethod
    def open(cls, path: Path) -> NodeHome:
        """Return the home in a folder.

        Raises:
            HomeError: If the folder is no home.
        """
        home = cls(path.absolute())
        if not home.path.is_dir():
            raise HomeError(path=path, reason="there is no such folder")
        if not home.settings_path.is_file():
            raise HomeError(path=path, reason="it has no policy.toml")
        if not home.kit_path.is_dir():
            raise HomeError(path=path, reason="it has no kit")
        if not os.access(home.path, os.R_OK | os.W_OK | os.X_OK):
            raise HomeError(path=path, reason="it belongs to another user")
        return home

    @property
    def kit_path(self) -> Path:
        """Return the folder of the kit."""
        return self.path / "kit"

    @property
    def enrolment_path(self) -> Path:
        """Return the folder in which keys wait for the federation to sign for them; see `common.security.enrolment`."""
        return self.path / FOLDER

    @property
    def settings_path(self) -> Path:
        """Return the file of the policy."""
        return self.path / "policy.toml"

    @property
    def registry_path(self) -> Path:
        """Return the database of data sets and plans."""
        return self.path / "registry.sqlite"

    @property
    def journal_path(self) -> Path:
        """Return the database of tasks."""
        return self.path / "journal.sqlite"

    @property
    def payloads(self) -> Path:
        """Return the folder of models and updates."""
        return self.path / "payloads"

    @property
    def work(self) -> Path:
        """Return the scratch space of workers."""
        return self.path / "work"

    @property
    def log(self) -> Path:
        """Return the folder of logs."""
        return self.path / "log"

    @property
    def log_path(self) -> Path:
        """Return the agent's log, JSON lines."""
        return self.log / "agent.jsonl"

    @property
    def audit_path(self) -> Path:
        """Return the folder of the audit log."""
        return self.path / "audit"

    @property
    def status_path(self) -> Path:
        """Return the file in which the agent says how it is doing."""
        return self.path / "status.json"

    @property
    def gui_path(self) -> Path:
        """Return the database of the web page's people."""
        return self.path / "gui.sqlite"

    @property
    def gui_link_path(self) -> Path:
        """Return the file with the link that sets the web page up."""
        return self.path / "gui.link"

    def owns(self, path: Path) -> bool:
        """Tell whether a file or folder is of the node itself, or has that inside, wherever links lead; what else lies in the home is not."""
        real, home = (Path(os.path.realpath(one)) for one in (path, self.path))
        if not real.is_relative_to(home):
            return home.is_relative_to(real)
        beginnings = tuple(one.name for one in self._own)  # a database has more files, which begin like it
        return real == home or real.relative_to(home).parts[0].startswith(beginnings)

    @property
    def _own(self) -> tuple[Path, ...]:
        databases = (self.registry_path, self.journal_path, self.gui_path)
        folders = (self.kit_path, self.enrolment_path, self.payloads, self.work, self.log, self.audit_path)
        return (
            *databases,
            *folders,
            self.settings_path,
            self.status_path,
            self.gui_link_path,
            self._lock_file,
        )

    def kit(self, *, now: float | None = None) -> Kit:
        """Load and check the kit.

        Raises:
            KitError: If it is incomplete or inconsistent.
            CertificateExpiredError: If its certificate has expired.
        """
        return Kit.load(self.kit_path, now=time.time() if now is None else now)

    def connection(self) -> Connection:
        """Return who this node is and where its broker is; an expired certificate does not matter.

        Raises:
            InvalidSettingsError: If the file is missing or wrong.
        """
        return load_toml(self.kit_path / "connection.toml", Connection)

    def policy(self) -> Policy:
        """Read what the people of the node allow.

        Raises:
            InvalidSettingsError: If `policy.toml` is wrong; names every mistake.
        """
        return Policy.load(self.settings_path)

    def audit(self) -> AuditLog:
        """Return the audit log, which also tells the syslog that the policy names; with a wrong policy, no syslog."""
        try:
            target = self.policy().syslog
        except InvalidSettingsError as error:  # who mends the policy is on record, too
            log.warning("no syslog", extra={"action": "policy_wrong", "error": str(error)})
            target = None
        forward = Forwarder(target) if target is not None else None
        return AuditLog(self.audit_path, self.connection().party, forward=forward)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for this process; the kernel lets go when the process ends, however it ends.

        Raises:
            HomeInUseError: If another holds it, in this process or another; names the process.
        """
        with self._lock_file.open("a+", encoding="ascii") as file:
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
            except (BlockingIOError, PermissionError) as error:
                file.seek(0)
                raise HomeInUseError(path=self.path, pid=file.read().strip() or "unknown") from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def holder(self) -> int | None:
        """Return the id of the process that holds the home, or None; asking takes no lock and disturbs nobody."""
        try:
            file = self._lock_file.open("r+", encoding="ascii")
        except FileNotFoundError:
            return None
        with file:
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
            if struct.unpack(_FLOCK, answer)[0] == fcntl.F_UNLCK:
                return None
            stated = file.read().strip()
        return int(stated) if stated.isdecimal() else None

    @property
    def _lock_file(self) -> Path:
        return self.path / "agent.lock"

    def _refuse_strangers(self, kit: Connection) -> None:
        """Raise unless the folder is new, empty, or a home of the kit's party."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise HomeError(path=self.path, reason="it is not a folder")
        if self.settings_path.is_file() and not self.kit_path.exists():
            return  # `create` was interrupted here
        if self.settings_path.is_file():
            ours = self.connection()
            if (ours.party, ours.federation) != (kit.party, kit.federation):
                raise HomeError(path=self.path, reason=f"it is the home of {ours.party} in {ours.federation}")
        elif any(entry != self.enrolment_path for entry in self.path.iterdir()):
            raise HomeError(path=self.path, reason="the folder is not empty and holds no home")


def _whole_file(kind: int) -> bytes:
    """Return a request about a lock that belongs to an open file, not to a process: it also works within one process."""
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


@contextlib.contextmanager
def _home_errors(path: Path) -> Iterator[None]:
    """Turn a folder that cannot be written into a HomeError."""
    try:
        yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise HomeError(path=path, reason=error.strerror or "it cannot be written") from error
