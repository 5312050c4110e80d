"""Publish the answers that the journal holds, until the broker has them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from common.clock import Clock
from common.errors import TransportClosedError, UnroutableError, WarrenError
from common.ids import TaskId
from common.mailbox import Mailbox, failure
from common.messages import ChunkRequest, TaskFailed, TrainReply
from common.payload.store import PayloadStore
from common.settings import Timeouts
from node.journal import Journal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplyPublished:
    """The publish of a reply has ended, well or badly."""

    task_id: TaskId
    error: WarrenError | None


class Outbox:
    """The answers of a node on their way to the broker. Used by the agent's thread only."""

    def __init__(
        self,
        mailbox: Mailbox,
        journal: Journal,
        payloads: PayloadStore,
        *,
        published: Callable[[ReplyPublished], None],
        clock: Clock,
        timeouts: Timeouts,
    ) -> None:
        """Wire the outbox; `published` is called on another thread when the publish of a reply has ended."""
        self._mailbox = mailbox
        self._journal = journal
        self._payloads = payloads
        self._published = published
        self._clock = clock
        self._pause_s = timeouts.reconnect_max_s
        self._again: dict[TaskId, float] = {}
        self._fresh: dict[TaskId, tuple[TrainReply | TaskFailed, bytes | None]] = {}

    def add(self, reply: TrainReply | TaskFailed, update: bytes | None = None) -> None:
        """Take an answer that was just journalled, with its update if that is small, so that they need not be read back to be published."""
        self._fresh[reply.task_id] = (reply, update)

    def publish(self, task_id: TaskId) -> None:
        """Send the answer to a task, its update first if that goes in chunks; a forgotten task is skipped."""
        reply, data = self._fresh.pop(task_id, None) or (self._journal.reply(task_id), None)

        def ended(future: Future[None]) -> None:
            self._published(ReplyPublished(task_id, failure(future)))

        if reply is None:
            return
        manifest = reply.update if isinstance(reply, TrainReply) else None
        if manifest is None:
            self._mailbox.send(reply).add_done_callback(ended)
            return
        if data is None:
            data = self._journal.payload(manifest.sha256)
        if data is not None:
            self._mailbox.send(reply, data).add_done_callback(ended)
            return

        def chunks_sent(future: Future[None]) -> None:
            # The reply goes last: when it arrives, every chunk is with the broker.
            if failure(future) is None:
                self._mailbox.send(reply).add_done_callback(ended)
            else:
                ended(future)

        path = self._payloads.path(manifest.sha256)
        self._mailbox.send_payload(path, manifest, reply.recipients, resume=True).add_done_callback(
            chunks_sent
        )

    def settle(self, event: ReplyPublished) -> bool:
        """Note how a publish ended, and tell whether the broker has the reply."""
        match event.error:
            case None:
                return True
            case TransportClosedError():
                pass  # this agent is stopping; the next one publishes it
            case UnroutableError() as error:
                log.error("researcher gone", extra={"action": "reply_undeliverable", "error": str(error)})
            case error:
                log.warning("reply not taken", extra={"action": "reply_delayed", "error": str(error)})
                self._again[event.task_id] = self._clock.monotonic() + self._pause_s
        return False

    def send_chunks(self, request: ChunkRequest) -> None:
        """Send again what a researcher misses of an update that is meant for it; other requests are refused.

        Nothing is sent while the update is on its way: the researcher asks again if that is not enough.
        """
        if self._mailbox.sends(request.sha256, request.sender):
            return
        for task_id, owner in self._journal.owners(request.sha256).items():
            reply = self._journal.reply(task_id) if owner == request.sender else None
            manifest = reply.update if isinstance(reply, TrainReply) else None
            if manifest is not None and not manifest.inline:
                indices = tuple(index for index in request.indices if index < manifest.chunks)
                self._mailbox.send_payload(self._payloads.path(request.sha256), manifest, [owner], indices)
                return
        log.warning(
            "chunks of no update asked for", extra={"action": "chunks_refused", "sender": request.sender}
        )

    def due(self) -> float | None:
        """Return when `tick` must be called next, on the monotonic clock."""
        return min(self._again.values(), default=None)

    def tick(self) -> None:
        """Publish again what the broker did not take."""
        now = self._clock.monotonic()
        for task_id in [task_id for task_id, moment in self._again.items() if moment <= now]:
            del self._again[task_id]
            self.publish(task_id)
