"""Keep what the researcher's side of an algorithm remembers, in a file for each round, so that a round can be made again with the same bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from common.security.files import sync_folder
from common.sqlite import storage_errors


@dataclass(frozen=True, slots=True)
class Memory:
    """What an optimizer or an aggregator remembers after each round of an experiment.

    Attributes:
        folder: Where; made when it is needed.
    """

    folder: Path

    def after(self, round_: int) -> Path:
        """Return the file of a round; 0 is what a branched experiment began with."""
        return self.folder / f"round-{round_:06d}.safetensors"

    def before(self, round_: int) -> Path | None:
        """Return the file that a round starts from, or None if there is none."""
        path = self.after(round_ - 1)
        return path if path.exists() else None

    def forget(self, first: int, last: int) -> None:
        """Remove the files of rounds before `first`, but never that of the last one."""
        for path in self.folder.glob("round-*.safetensors"):
            if path < self.after(first) and path != self.after(last):
                path.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Make a file that was written survive a crash of the machine.

    Raises:
        DiskFullError: If there is no space.
    """
    with storage_errors(path), path.open("rb") as written:
        os.fsync(written.fileno())
    sync_folder(path.parent)
