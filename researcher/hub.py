"""Turn what arrives at a researcher into answers, presence, payloads and the mail of experiments."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue

from common import metrics
from common.allocator import keep_freed_memory
from common.clock import Clock
from common.errors import StorageError, WarrenError
from common.ids import Digest, ExperimentId, MessageId, PartyId
from common.mailbox import Mail, Mailbox, failure
from common.messages import (
    AnyMessage,
    Chunk,
    ChunkRequest,
    ExperimentMessage,
    NodeFigures,
    NodeInfo,
    NodePresence,
    PayloadManifest,
    PayloadReceipt,
    PingReply,
    PingRequest,
    Reply,
)
from common.payload.store import PayloadStore
from common.security.files import write_atomic
from common.security.roster import Roster
from common.settings import Timeouts
from common.sqlite import storage_errors
from researcher.directory import NodeChange, NodeDirectory, NodeStatus, read_snapshot, snapshot
from researcher.home import Home
from researcher.inbox import DiskFailed, Inbox, PayloadDamaged, PayloadWhole, Switchboard
from researcher.requests import Pending
from researcher.transfers import Hopeless, Missing, Transfers

log = logging.getLogger(__name__)


class Hub:
    """The one reader of a researcher's mailbox. All public methods are thread-safe.

    One thread keeps the directory, matches answers and stores chunks; it sleeps until something comes or a time limit is due.
    The mail of experiments does not pass through it: the transport's thread hands it to their inboxes.
    """

    def __init__(self, mailbox: Mailbox, home: Home, timeouts: Timeouts, clock: Clock) -> None:
        self._mailbox = mailbox
        self._home = home
        self._timeouts = timeouts
        self._clock = clock
        self._switchboard = Switchboard()
        self._incoming = PayloadStore(home.transfers)
        self._transfers = Transfers(  # used by the thread alone
            self._incoming, timeouts.reply_s, now=clock.monotonic()
        )
        self._changed = threading.Condition()  # guards what follows
        self._directory = NodeDirectory(timeouts.presence_s)
        self._offers: dict[Digest, tuple[Path, PayloadManifest, frozenset[PartyId]]] = {}
        self._pending: dict[MessageId, Pending] = {}
        self._last_chunk: dict[PartyId, float] = {}
        self._connected = False
        self._lost_at: float | None = None
        self._detail = "no answer"
        self._steps: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    @property
    def party(self) -> PartyId:
        """Return the id of this researcher."""
        return self._mailbox.party

    @property
    def roster(self) -> Roster:
        """Return who is in the federation."""
        return self._mailbox.roster

    def start(self) -> None:
        """Begin to send and receive."""
        keep_freed_memory()
        self._list_nodes(self._mailbox.roster)
        with self._changed:
            self._directory.remember(read_snapshot(self._home.directory))
        self._write_snapshot()
        self._thread.start()
        self._mailbox.start(
            self._receive,
            on_connection=lambda connected, detail: self._steps.put(
                partial(self._connection_changed, connected, detail)
            ),
            on_roster=lambda roster: self._steps.put(partial(self._list_nodes, roster)),
        )

    def close(self) -> None:
        """Stop; what was not acknowledged stays with the broker."""
        self._mailbox.close()
        self._steps.put(None)
        self._thread.join()
        self._incoming.close()

    # Who is there

    def statuses(self) -> dict[PartyId, NodeStatus]:
        """Return what is known of each node now."""
        with self._changed:
            return dict(self._directory.nodes)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Tell whether the broker can be reached."""
        with self._changed:
            return self._connected, {"connected": self._connected}

    def wait(self, ready: Callable[[dict[PartyId, NodeStatus]], bool], timeout_s: float) -> bool:
        """Wait until the nodes are as wanted, and tell whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: ready(dict(self._directory.nodes)), timeout_s)

    def wait_connected(self, timeout_s: float) -> str | None:
        """Wait for the broker; return None, or what went wrong last."""
        with self._changed:
            connected = self._changed.wait_for(lambda: self._connected, timeout_s)
            return None if connected else self._detail

    def last_chunk(self, node: PartyId) -> float:
        """Return when the last bytes of an update came from a node, on the monotonic clock; minus infinity if none did."""
        with self._changed:
            return self._last_chunk.get(node, -inf)

    # Short requests

    def ask(self, request: AnyMessage, expected: Collection[PartyId]) -> dict[PartyId, Reply]:
        """Send a request and return the answers of the nodes that gave one in time, in node order.

        Raises:
            TransportError: If the broker did not take the request.
        """
        pending = Pending(request.message_id, expected)
        with self._changed:
            self._pending[request.message_id] = pending
        try:
            self._mailbox.send(request).add_done_callback(pending.sent)
            replies = pending.wait(self._timeouts.reply_s)
        finally:
            with self._changed:
                del self._pending[request.message_id]
        if pending.silent:
            metrics.TIMEOUTS.labels(timeout="reply_s").inc()
            log.warning(
                "nodes did not answer",
                extra={"action": "no_answer", "kind": request.kind, "nodes": sorted(pending.silent)},
            )
        return replies

    # What experiments need

    def attach(self, experiment: ExperimentId, inbox: Inbox) -> None:
        """Bring what concerns an experiment to its inbox: its messages, nodes that come and go, payloads that arrived."""
        self._switchboard.attach(experiment, inbox)

    def detach(self, experiment: ExperimentId) -> None:
        """Bring nothing of the experiment any more."""
        self._switchboard.detach(experiment)

    def send(self, message: AnyMessage, payload: bytes | memoryview = b"") -> Future[None]:
        """Send a message; see `Mailbox.send`."""
        return self._mailbox.send(message, payload)

    def post(self, message: AnyMessage) -> None:
        """Send a message that nobody waits for; a failure is logged."""
        try:
            self._mailbox.send(message).add_done_callback(_log_failure)
        except WarrenError as error:
            log.warning("message not sent", extra={"action": "send_failed", "error": str(error)})

    def offer(self, path: Path, manifest: PayloadManifest, nodes: Sequence[PartyId]) -> None:
        """Let these nodes ask for chunks of a payload, until `withdraw`."""
        with self._changed:
            self._offers[manifest.sha256] = (path, manifest, frozenset(nodes))

    def send_payload(self, path: Path, manifest: PayloadManifest, nodes: Sequence[PartyId]) -> Future[None]:
        """Offer a payload and send all of its chunks."""
        self.offer(path, manifest, nodes)
        return self._mailbox.send_payload(path, manifest, nodes)

    def withdraw(self, sha256: Digest) -> None:
        """Give no more chunks of a payload."""
        with self._changed:
            self._offers.pop(sha256, None)

    def expect(self, manifest: PayloadManifest, sender: PartyId) -> None:
        """Receive a payload that comes in chunks; the inbox is told when it is whole, or given up."""
        self._steps.put(partial(self._expect, manifest, sender))

    def collect(self, sha256: Digest, store: PayloadStore) -> None:
        """Move a payload that is whole into a store.

        Raises:
            PayloadMissingError: If it is in neither place.
        """
        if not store.has(sha256):
            store.adopt(self._incoming, sha256)
        self.discard(sha256)

    def confirm(self, sha256: Digest, sender: PartyId) -> None:
        """Tell the sender of a payload that it may forget it."""
        self.post(PayloadReceipt(sender=self.party, recipients=(sender,), sha256=sha256))

    def discard(self, sha256: Digest) -> None:
        """Drop a payload that is not wanted."""
        self._steps.put(partial(self._transfers.forget, sha256))

    # The thread

    def _run(self) -> None:
        while True:
            try:
                step = self._steps.get(timeout=self._patience())
            except Empty:
                step = self._time_passed
            if step is None:
                return
            try:
                with storage_errors(self._home.path):
                    step()
            except StorageError as error:
                log.warning("could not be kept", extra={"action": "disk_failed", "error": str(error)})
                self._switchboard.tell_all(DiskFailed(error))

    def _patience(self) -> float:
        with self._changed:
            presence = self._directory.deadline if self._connected else None
        transfers = self._transfers.deadline
        due = transfers if presence is None else min(presence, transfers)
        return max(0.0, due - self._clock.monotonic())

    def _time_passed(self) -> None:
        monotonic = self._clock.monotonic()
        with self._changed:
            connected = self._connected
            silent = self._directory.expire(now=self._clock.now(), monotonic=monotonic) if connected else ()
        for change in silent:
            metrics.TIMEOUTS.labels(timeout="presence_s").inc()
            self._announce(change)
        self._transfers.sweep(monotonic)
        for missing in self._transfers.overdue(monotonic):
            metrics.TIMEOUTS.labels(timeout="reply_s").inc()
            self._ask_again(missing)

    def _connection_changed(self, connected: bool, detail: str) -> None:  # noqa: FBT001 - as the transport calls it
        with self._changed:
            monotonic = self._clock.monotonic()
            if connected:
                # Whoever lost the broker at the same time finds it again within as long as it was away.
                away_s = 0.0 if self._lost_at is None else monotonic - self._lost_at
                self._directory.forgive(monotonic + min(away_s, self._timeouts.reconnect_max_s))
                self._lost_at = None
            elif self._connected:
                self._lost_at = monotonic
            self._connected, self._detail = connected, detail
            nodes = tuple(self._directory.nodes)
            self._changed.notify_all()
        if connected and nodes:
            deadline = self._clock.now() + self._timeouts.reply_s
            self.post(PingRequest(sender=self.party, recipients=nodes, deadline=deadline))

    def _list_nodes(self, roster: Roster) -> None:
        nodes = [member.party for member in roster.active("node")]
        with self._changed:
            gone = self._directory.nodes.keys() - set(nodes)
            self._directory.list(nodes, monotonic=self._clock.monotonic())
            self._changed.notify_all()
        for node in gone:
            self._announce(NodeChange(node, online=False, at=self._clock.now()))

    def _receive(self, mail: Mail) -> None:
        if isinstance(mail.message, ExperimentMessage):
            self._switchboard.route(mail)
        else:
            self._steps.put(partial(self._handle, mail))

    def _handle(self, mail: Mail) -> None:
        match mail.message:
            case Chunk() as chunk:
                self._take_chunk(mail, chunk)
                return
            case NodePresence() as presence:
                self._seen(presence, presence.info, presence.figures, leaving=presence.leaving)
            case Reply() as reply:
                self._seen(reply, reply.info if isinstance(reply, PingReply) else None)
                self._answered(reply)
            case ChunkRequest(sender=node, sha256=sha256, indices=indices):
                self._serve(node, sha256, indices)
            case PayloadReceipt():
                pass  # the node has the model; its reply will say what matters
            case message:
                log.warning("unexpected message", extra={"action": "unexpected", "kind": message.kind})
                mail.reject()
                return
        mail.ack()

    def _seen(
        self,
        message: NodePresence | Reply,
        info: NodeInfo | None = None,
        figures: NodeFigures | None = None,
        *,
        leaving: bool = False,
    ) -> None:
        node, now, monotonic = message.sender, self._clock.now(), self._clock.monotonic()
        with self._changed:
            known = self._directory.nodes.get(node)
            change = self._directory.seen(
                node,
                now=now,
                monotonic=monotonic,
                info=info,
                figures=figures,
                leaving=leaving,
                said_at=message.created_at,
            )
        if change is not None:
            self._announce(change)
        elif info is not None and known is not None and known.info != info:
            self._write_snapshot()

    def _announce(self, change: NodeChange) -> None:
        """Tell everyone who waits for it that a node came or went."""
        log.info(
            "node online" if change.online else "node offline",
            extra={"action": "node_changed", "node": change.node, "online": change.online},
        )
        self._write_snapshot()
        with self._changed:
            waiting = list(self._pending.values())
            self._changed.notify_all()
        if not change.online:
            for pending in waiting:
                pending.give_up_on(change.node)
        self._switchboard.tell_all(change)

    def _write_snapshot(self) -> None:
        write_atomic(self._home.directory, snapshot(self.statuses()), alone=True)

    def _answered(self, reply: Reply) -> None:
        with self._changed:
            pending = self._pending.get(reply.request_id)
        if pending is not None:
            pending.add(reply)

    def _expect(self, manifest: PayloadManifest, sender: PartyId) -> None:
        if self._transfers.expect(manifest, sender, self._clock.monotonic()):
            self._switchboard.tell_all(PayloadWhole(manifest.sha256))

    def _take_chunk(self, mail: Mail, chunk: Chunk) -> None:
        monotonic = self._clock.monotonic()
        with self._changed:
            self._last_chunk[chunk.sender] = monotonic
        match self._transfers.take(mail, chunk, monotonic):
            case Missing() as missing:
                self._ask_again(missing)
            case Hopeless(sha256):
                self._switchboard.tell_all(PayloadDamaged(sha256))
            case str() as whole:
                self._switchboard.tell_all(PayloadWhole(whole))
            case None:
                pass

    def _ask_again(self, missing: Missing) -> None:
        request = ChunkRequest(
            sender=self.party,
            recipients=(missing.sender,),
            sha256=missing.sha256,
            indices=missing.indices[:100_000],
        )
        self.post(request)

    def _serve(self, node: PartyId, sha256: Digest, indices: Sequence[int]) -> None:
        with self._changed:
            path, manifest, allowed = self._offers.get(sha256, (None, None, frozenset()))
        if path is None or manifest is None or node not in allowed or max(indices) >= manifest.chunks:
            log.warning("chunks not given", extra={"action": "chunks_refused", "node": node})
            return
        if self._mailbox.sends(sha256, node):
            return  # it asks again if that is not enough
        self._mailbox.send_payload(path, manifest, (node,), indices).add_done_callback(_log_failure)


def _log_failure(future: Future[None]) -> None:
    error = failure(future)
    if error is not None:
        log.warning("message not sent", extra={"action": "send_failed", "error": str(error)})
