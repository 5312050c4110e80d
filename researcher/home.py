"""Hold a researcher's folder: its kit, its experiments, and the lock that keeps it to one process.

enrolment/         keys that the federation has not signed for yet
kit/               the kit of this party
experiments/       one folder for each experiment
transfers/         payloads that are arriving
running/           one pipe for each experiment that runs, see `researcher.control`
audit/             what was asked, what came, what was made of it; see `common.audit`
audit.anchor       where that log ends
researcher.jsonl   what commands logged, the latest; older ones have a number behind it
directory.json     who is online, as the process that runs sees it
lock               held by the process that runs; contains its number
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, Self

from common.clock import SystemClock
from common.errors import HomeError, HomeInUseError, KitError
from common.security.enrolment import FOLDER
from common.security.kit import CONNECTION, Kit, install_kit
from common.settings import Connection, load_toml

HOME_VARIABLE: Final = "WARREN_HOME"


def default_home() -> Path:
    """Return the home that `WARREN_HOME` names, else `./warren-researcher`."""
    return Path(os.environ.get(HOME_VARIABLE, "warren-researcher"))


class Home:
    """The paths of a researcher's home."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.kit = self.path / "kit"
        self.experiments = self.path / "experiments"
        self.transfers = self.path / "transfers"
        self.running = self.path / "running"
        self.directory = self.path / "directory.json"
        self.audit = self.path / "audit"
        self.log = self.path / "researcher.jsonl"

    @classmethod
    def init(cls, path: Path, kit: Path) -> Home:
        """Make a home with a copy of a kit, or put a renewed kit into the home of the same party; whole or not at all.

        Raises:
            HomeError: If the folder holds something else, or the home of another party.
            HomeInUseError: If a process uses the home.
            KitError: If the kit cannot be used, or is not that of a researcher.
        """
        home = cls(path)
        checked = Kit.load(kit, now=SystemClock().now())
        if checked.connection.role != "researcher":
            raise KitError(
                path=kit, reason=f"it is the kit of a {checked.connection.role}, not of a researcher"
            )
        home._refuse_strangers(checked.connection)
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = HomeLock.take(home)
        try:
            home.experiments.mkdir(exist_ok=True)
            install_kit(kit, home.kit)
        finally:
            lock.release()
        return home

    def _refuse_strangers(self, kit: Connection) -> None:
        """Raise unless the folder is new, empty, or a home of the kit's party."""
        if self.kit.is_dir():
            ours = load_toml(self.kit / CONNECTION, Connection)
            if (ours.party, ours.federation) != (kit.party, kit.federation):
                raise HomeError(path=self.path, reason=f"it is the home of {ours.party} in {ours.federation}")
        elif self.path.exists() and any(
            entry.name not in (FOLDER, "experiments", "lock") for entry in self.path.iterdir()
        ):
            raise HomeError(path=self.path, reason="it is not empty")

    def load_kit(self) -> Kit:
        """Read the kit.

        Raises:
            HomeError: If this is no home.
            KitError: If the kit cannot be used.
        """
        if not self.kit.is_dir():
            raise HomeError(path=self.path, reason="it has no kit")
        return Kit.load(self.kit, now=SystemClock().now())


class HomeLock:
    """Keeps a home to one process, until it is released or the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, home: Home) -> Self:
        """Lock a home.

        Raises:
            HomeError: If it is no folder that can be written.
            HomeInUseError: If another process has it.
        """
        try:
            descriptor = os.open(home.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HomeError(path=home.path, reason=error.strerror or "it cannot be written") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise HomeInUseError(path=home.path, pid=pid) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let others have the home."""
        os.close(self._descriptor)
