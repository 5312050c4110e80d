"""Gather global models that come in chunks, and ask again for what is missing."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Final

from common import metrics
from common.clock import Clock
from common.errors import DigestMismatchError
from common.ids import Digest, PartyId
from common.limits import DAMAGED_TRIES
from common.mailbox import Mailbox
from common.messages import Chunk, ChunkRequest, PayloadManifest
from common.payload.allowance import Allowance
from common.payload.store import PayloadStore
from common.settings import Timeouts

log = logging.getLogger(__name__)

_ASKED_AT_ONCE: Final = 10_000
"""Indices in one request for missing chunks."""
_ABANDONED_S: Final = 7 * 86400.0
_SWEEP_S: Final = 3600.0


@dataclass(slots=True)
class _Arriving:
    manifest: PayloadManifest
    researcher: PartyId
    ask_at: float


class Arrivals:
    """The models of which chunks are still missing. Used by the agent's thread only."""

    def __init__(
        self, mailbox: Mailbox, payloads: PayloadStore, *, limit_bytes: int, clock: Clock, timeouts: Timeouts
    ) -> None:
        """Expect nothing yet; models larger than `limit_bytes` are not gathered."""
        self._mailbox = mailbox
        self._payloads = payloads
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._patience_s = 2 * timeouts.reply_s
        self._allowance = Allowance(limit_bytes)
        self._sweep_at = clock.monotonic()
        self._arriving: dict[Digest, _Arriving] = {}
        self._damaged: Counter[Digest] = Counter()

    def expect(self, manifest: PayloadManifest, researcher: PartyId) -> None:
        """Ask for chunks of this model if none comes for a while."""
        self._allowance.release(manifest.sha256)
        ask_at = self._clock.monotonic() + self._patience_s
        self._arriving[manifest.sha256] = _Arriving(manifest, researcher, ask_at)

    def accept(self, chunk: Chunk, data: memoryview) -> bool:
        """Store one chunk and tell whether its model is now whole.

        Raises:
            MalformedMessageError: If the chunk contradicts its manifest or earlier chunks.
            DigestMismatchError: If the model came damaged for the last of `DAMAGED_TRIES`; it is not expected any more.
            DiskFullError: If it does not fit.
        """
        digest = chunk.manifest.sha256
        if chunk.manifest.size_bytes > self._limit_bytes:
            return False  # the request that announces it is refused, with the reason
        if digest not in self._arriving and not self._allowance.admits(chunk.sender, chunk.manifest):
            return False
        try:
            whole = self._payloads.accept(chunk, data)
        except DigestMismatchError as error:
            log.warning("model damaged", extra={"action": "payload_damaged", "error": str(error)})
            whole = False
            self._damaged[digest] += 1
            if self._damaged[digest] == DAMAGED_TRIES:
                self.forget(digest)
                raise
        if whole:
            self._arriving.pop(digest, None)
            del self._damaged[digest]
        elif digest in self._arriving:
            self.expect(chunk.manifest, self._arriving[digest].researcher)
        return whole

    def forget(self, digest: Digest) -> None:
        """Expect a model no longer."""
        self._arriving.pop(digest, None)
        self._allowance.release(digest)
        del self._damaged[digest]

    def close(self) -> None:
        """Close the files of what is arriving; they stay for the next start."""
        self._payloads.close()

    def due(self) -> float:
        """Return when `tick` must be called next, on the monotonic clock."""
        return min((arriving.ask_at for arriving in self._arriving.values()), default=self._sweep_at)

    def tick(self) -> None:
        """Ask for the missing chunks of models that have been silent for too long; forget what nobody sends any more."""
        now = self._clock.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self._allowance.release(*self._payloads.sweep(older_than_s=_ABANDONED_S))
        for digest, arriving in self._arriving.items():
            if arriving.ask_at <= now:
                metrics.TIMEOUTS.labels(timeout="reply_s").inc()
                arriving.ask_at = now + self._patience_s
                missing = self._payloads.missing(arriving.manifest)[:_ASKED_AT_ONCE]
                log.warning("model incomplete", extra={"action": "chunks_requested", "missing": len(missing)})
                request = ChunkRequest(
                    sender=self._mailbox.party,
                    recipients=(arriving.researcher,),
                    sha256=digest,
                    indices=missing,
                )
                self._mailbox.send(request)
