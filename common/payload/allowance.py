"""Bound what parties may send of payloads that nobody has announced yet."""

from __future__ import annotations

import logging
from typing import Final

from common.ids import Digest, PartyId
from common.messages import PayloadManifest

log = logging.getLogger(__name__)

UNANNOUNCED_BYTES: Final = 16 * 1024**3
"""Payloads of one sender that may come before the message that they belong to; what is larger is asked for afterwards."""


class Allowance:
    """Which payloads may arrive unannounced. Not thread-safe; forgotten with the process."""

    def __init__(self, limit_bytes: int = UNANNOUNCED_BYTES) -> None:
        """Allow each sender so many bytes."""
        self._limit_bytes = limit_bytes
        self._sizes: dict[PartyId, dict[Digest, int]] = {}

    def admits(self, sender: PartyId, manifest: PayloadManifest) -> bool:
        """Tell whether chunks of this payload may be kept, and count it if so."""
        sizes = self._sizes.setdefault(sender, {})
        if manifest.sha256 in sizes:
            return True
        if sum(sizes.values()) + manifest.size_bytes > self._limit_bytes:
            log.warning(
                "chunk of an unannounced payload dropped",
                extra={"action": "chunk_dropped", "sender": sender, "size_bytes": manifest.size_bytes},
            )
            return False
        sizes[manifest.sha256] = manifest.size_bytes
        return True

    def release(self, *digests: Digest) -> None:
        """Count these no more: they were announced, or are gone."""
        for sizes in self._sizes.values():
            for digest in digests:
                sizes.pop(digest, None)
