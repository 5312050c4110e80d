"""Send one payload to the broker chunk by chunk, and remember what the broker has of it."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import BinaryIO

from common.errors import PayloadMissingError, QueueFullError, TransportClosedError
from common.ids import PartyId
from common.limits import SEND_WINDOW_CHUNKS
from common.messages import Chunk, PayloadManifest
from common.payload.sent import SentChunks
from common.payload.store import chunk_length
from common.settings import Timeouts

log = logging.getLogger(__name__)

Send = Callable[[Chunk, bytes], Future[None]]


class Upload:
    """One payload on its way. `run` is called once, on a thread that may wait; the rest is for any thread."""

    def __init__(
        self,
        send: Send,
        sender: PartyId,
        path: Path,
        manifest: PayloadManifest,
        recipients: Sequence[PartyId],
        *,
        closed: threading.Event,
        timeouts: Timeouts,
    ) -> None:
        """Prepare, without doing anything yet.

        Args:
            send: Publishes a chunk with its bytes.
            sender: Whose payload it is.
            path: Its file.
            manifest: Describes it.
            recipients: Who gets it.
            closed: Set when the transport ends.
            timeouts: Pauses before a full queue is tried again.
        """
        self._send = send
        self._sender = sender
        self._path = path
        self._manifest = manifest
        self._recipients = tuple(recipients)
        self._closed = closed
        self._timeouts = timeouts
        self._window = threading.Semaphore(SEND_WINDOW_CHUNKS)
        self._pending: deque[tuple[int, tuple[PartyId, ...], Future[None]]] = deque()

    def goes_to(self, sha256: str, party: PartyId) -> bool:
        """Tell whether this is about that payload and goes to that party."""
        return sha256 == self._manifest.sha256 and party in self._recipients

    def run(self, indices: Iterable[int] | None, *, resume: bool) -> None:
        """Send chunks until the broker has them.

        One recipient whose queue is full is waited for. Of several it is left out, so that the others need not wait for it:
        it asks for what it misses when it reads again.

        Args:
            indices: Which chunks; all if not given.
            resume: Whether to leave out what the broker had when this payload was sent to the same recipients before.

        Raises:
            PayloadMissingError: If the file is gone.
            TransportError: If the broker does not take a chunk.
        """
        with self._opened() as file:
            if not resume:
                self._run(file, range(self._manifest.chunks) if indices is None else indices, None)
                return
            with SentChunks(self._path, self._manifest, self._recipients) as sent:
                self._run(file, tuple(sent.left()) if indices is None else indices, sent)

    def _run(self, file: BinaryIO, indices: Iterable[int], sent: SentChunks | None) -> None:
        for index in indices:
            self._publish(file, index, self._recipients, sent)
            self._settle(file, SEND_WINDOW_CHUNKS, sent)
        self._settle(file, 0, sent)

    def _opened(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except FileNotFoundError as error:  # it was asked for, and forgotten meanwhile
            raise PayloadMissingError(digest=self._manifest.sha256, path=self._path.parent) from error

    def _publish(
        self, file: BinaryIO, index: int, recipients: tuple[PartyId, ...], sent: SentChunks | None
    ) -> None:
        if not recipients:
            return
        self._window.acquire()
        manifest = self._manifest
        data = os.pread(file.fileno(), chunk_length(manifest, index), index * manifest.chunk_bytes)
        chunk = Chunk(sender=self._sender, recipients=recipients, manifest=manifest, index=index)
        future = self._send(chunk, data)
        self._pending.append((index, recipients, future))
        future.add_done_callback(partial(self._ended, index, sent))

    def _ended(self, index: int, sent: SentChunks | None, future: Future[None]) -> None:
        """Take note on the transport's thread, so that a crash of this process forgets as little as possible."""
        self._window.release()
        if sent is not None and future.exception() is None:
            sent.add(index)

    def _settle(self, file: BinaryIO, keep: int, sent: SentChunks | None) -> None:
        """Wait for the oldest publishes until `keep` are left; what a full queue refused is published again."""
        pause_s = self._timeouts.reconnect_first_s
        while len(self._pending) > keep:
            index, recipients, future = self._pending.popleft()
            try:
                future.result()
            except QueueFullError:
                if len(recipients) > 1:  # the broker does not say whose queue it is
                    for one in recipients:
                        self._publish(file, index, (one,), sent)
                elif len(self._recipients) > 1:
                    self._leave_out(*recipients)
                elif recipients == self._recipients:
                    if self._closed.wait(pause_s):
                        raise TransportClosedError(action="send a payload", party=self._sender) from None
                    pause_s = min(2 * pause_s, self._timeouts.reconnect_max_s)
                    self._publish(file, index, recipients, sent)

    def _leave_out(self, party: PartyId) -> None:
        log.warning("queue full; the node will ask for the rest", extra={"action": "left_out", "node": party})
        self._recipients = tuple(one for one in self._recipients if one != party)
