"""Remember where an audit log ends, outside of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from common.audit.record import FIRST
from common.errors import AuditBrokenError
from common.ids import Digest
from common.security.files import write_private


@dataclass(frozen=True, slots=True)
class Anchor:
    """The place of one record in a log; as text `NUMBER:SHA256`."""

    number: int
    sha256: Digest

    def __str__(self) -> str:
        return f"{self.number:016d}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives; zeros in front may be left out.

        Raises:
            AuditBrokenError: If it is something else.
        """
        number, colon, digest = text.strip().partition(":")
        if not colon or not (number.isascii() and number.isdecimal()) or len(digest) != len(FIRST):
            raise AuditBrokenError(path=text.strip()[:100], reason="it is no anchor, NUMBER:SHA256")
        return cls(int(number), Digest(digest))


def anchor_path(folder: Path) -> Path:
    """Return the file that holds the anchor of the log in a folder."""
    return folder.with_name(f"{folder.name}.anchor")


def read_anchor(folder: Path) -> Anchor | None:
    """Return the anchor of a log, or None if there is none.

    Raises:
        AuditBrokenError: If the file holds something else.
    """
    try:
        text = anchor_path(folder).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    return Anchor.parse(text)


def write_anchor(folder: Path, anchor: Anchor) -> None:
    """Replace the anchor of a log, whose record must be on disk before.

    Only its first writing is synced: after a power cut it may name an earlier record, never a later one.
    """
    path, text = anchor_path(folder), f"{anchor}\n".encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        write_private(path, text)
        return
    try:
        os.pwrite(descriptor, text, 0)  # of the same length each time
    finally:
        os.close(descriptor)
