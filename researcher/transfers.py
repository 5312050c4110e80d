"""Receive updates that come in chunks, and ask again for chunks that do not come."""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from common.errors import DigestMismatchError, MalformedMessageError
from common.ids import Digest, PartyId
from common.limits import DAMAGED_TRIES
from common.mailbox import Mail
from common.messages import Chunk, PayloadManifest
from common.payload.allowance import Allowance
from common.payload.store import PayloadStore

log = logging.getLogger(__name__)

_REMEMBERED: Final = 256
"""Payloads of which late duplicates are recognised."""
_ABANDONED_S: Final = 7 * 86400.0
_SWEEP_S: Final = 3600.0


@dataclass(slots=True)
class _Transfer:
    manifest: PayloadManifest
    sender: PartyId
    silent_at: float


@dataclass(frozen=True, slots=True)
class Missing:
    """Chunks to ask a sender for."""

    sender: PartyId
    sha256: Digest
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hopeless:
    """A payload that came damaged again and again; it is not waited for any more."""

    sha256: Digest


class Transfers:
    """The payloads that are on their way to this researcher. Not thread-safe; times are handed in.

    Chunks may come before, between and after the reply that announces them. A transfer that was announced and is silent for
    `silence_s`, or whose last chunk came while others are missing, is asked for again by index. One that turns out to be other
    bytes than announced is asked for anew, and given up after `DAMAGED_TRIES`. How much a node may send unannounced is bounded,
    and what nobody wanted for a week is forgotten.
    """

    def __init__(
        self, store: PayloadStore, silence_s: float, *, allowance: Allowance | None = None, now: float = 0.0
    ) -> None:
        """Expect nothing yet; what earlier processes left for too long is forgotten."""
        self._store = store
        self._silence_s = silence_s
        self._allowance = allowance or Allowance()
        self._expected: dict[Digest, _Transfer] = {}
        self._collected: deque[Digest] = deque(maxlen=_REMEMBERED)
        self._damaged: Counter[Digest] = Counter()
        self._sweep_at = now
        self.sweep(now)

    def expect(self, manifest: PayloadManifest, sender: PartyId, monotonic: float) -> bool:
        """Note a payload that was announced; return whether it is here already."""
        self._allowance.release(manifest.sha256)
        if manifest.sha256 in self._collected:
            self._collected.remove(manifest.sha256)
        if self._store.has(manifest.sha256):
            return True
        self._expected.setdefault(manifest.sha256, _Transfer(manifest, sender, monotonic + self._silence_s))
        return False

    def forget(self, sha256: Digest) -> None:
        """Expect a payload no longer, drop what came of it, and what still comes of it from a sender that was cut off."""
        self._expected.pop(sha256, None)
        self._allowance.release(sha256)
        del self._damaged[sha256]
        self._store.remove(sha256)
        self._collected.append(sha256)

    def take(self, mail: Mail, chunk: Chunk, monotonic: float) -> Digest | Missing | Hopeless | None:
        """Store one chunk, then acknowledge it; one that does not fit is set aside.

        Returns:
            The payload if it is now whole, what to ask for if chunks were lost, or that it is given up.
        """
        sha256 = chunk.manifest.sha256
        wanted = sha256 in self._expected or self._allowance.admits(chunk.sender, chunk.manifest)
        if sha256 in self._collected or not wanted:
            mail.ack()
            return None
        try:
            whole = self._store.accept(chunk, mail.payload)
        except MalformedMessageError as error:
            log.warning("chunk refused", extra={"action": "chunk_refused", "error": str(error)})
            mail.reject()
            return None
        except DigestMismatchError as error:
            log.warning("payload damaged", extra={"action": "payload_damaged", "error": str(error)})
            mail.ack()
            return self._came_damaged(chunk)
        mail.ack()
        if whole:
            self._expected.pop(sha256, None)
            del self._damaged[sha256]
            return sha256
        transfer = self._expected.get(sha256)
        if transfer is None:
            return None
        transfer.silent_at = monotonic + self._silence_s
        last = chunk.index == chunk.manifest.chunks - 1
        return self._missing(transfer) if last else None

    def overdue(self, monotonic: float) -> list[Missing]:
        """Return what to ask for because its sender has been silent for too long."""
        found = []
        for transfer in self._expected.values():
            if transfer.silent_at <= monotonic:
                transfer.silent_at = monotonic + self._silence_s
                found.append(self._missing(transfer))
        return found

    def sweep(self, monotonic: float) -> None:
        """Forget, when it is time to, what nobody wanted for a week."""
        if monotonic >= self._sweep_at:
            self._sweep_at = monotonic + _SWEEP_S
            self._allowance.release(*self._store.sweep(older_than_s=_ABANDONED_S, whole=True))

    @property
    def deadline(self) -> float:
        """Return the monotonic time at which `overdue` and `sweep` should be called next."""
        return min((transfer.silent_at for transfer in self._expected.values()), default=self._sweep_at)

    def _came_damaged(self, chunk: Chunk) -> Missing | Hopeless:
        sha256 = chunk.manifest.sha256
        self._damaged[sha256] += 1
        if self._damaged[sha256] < DAMAGED_TRIES:
            return Missing(chunk.sender, sha256, tuple(range(chunk.manifest.chunks)))
        self.forget(sha256)
        return Hopeless(sha256)

    def _missing(self, transfer: _Transfer) -> Missing:
        manifest = transfer.manifest
        return Missing(transfer.sender, manifest.sha256, self._store.missing(manifest))
