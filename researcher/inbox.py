"""Bring what concerns an experiment to whoever runs it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from common.errors import StorageError, WarrenError
from common.ids import Digest, ExperimentId, TaskId
from common.mailbox import Mail
from common.messages import ExperimentMessage, TaskFailed, TaskProgress, TrainReply
from researcher.directory import NodeChange

log = logging.getLogger(__name__)

_PARKED: Final = 16
"""Answers kept for experiments that nobody runs yet; well under the prefetch of a queue, which so never stands still."""


@dataclass(frozen=True, slots=True)
class PayloadWhole:
    """A payload that came in chunks is whole."""

    sha256: Digest


@dataclass(frozen=True, slots=True)
class PayloadDamaged:
    """A payload was other bytes than announced, time after time; it is not waited for any more."""

    sha256: Digest


@dataclass(frozen=True, slots=True)
class SendFailed:
    """The broker did not take a request for these tasks."""

    tasks: tuple[TaskId, ...]
    error: WarrenError


@dataclass(frozen=True, slots=True)
class DiskFailed:
    """What came in could not be kept; it was not acknowledged."""

    error: StorageError


@dataclass(frozen=True, slots=True)
class CancelRun:
    """A person wants the run to stop."""


Item = Mail | NodeChange | PayloadWhole | PayloadDamaged | SendFailed | DiskFailed | CancelRun
Inbox = SimpleQueue[Item]


class Switchboard:
    """Who runs which experiment. Thread-safe, never blocks.

    Answers to an experiment that nobody runs are parked without being acknowledged: it may be resumed in a moment. Of too many
    the oldest is acknowledged and dropped; its node has it and gives it again when the experiment is resumed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inboxes: dict[ExperimentId, Inbox] = {}
        self._parked: deque[Mail] = deque()

    def attach(self, experiment: ExperimentId, inbox: Inbox) -> None:
        """Bring what concerns the experiment to this inbox from now on, parked answers first."""
        with self._lock:
            self._inboxes[experiment] = inbox
            parked, self._parked = self._parked, deque()
        for mail in parked:
            self.route(mail)

    def detach(self, experiment: ExperimentId) -> None:
        """Bring nothing of the experiment any more."""
        with self._lock:
            self._inboxes.pop(experiment, None)

    def route(self, mail: Mail) -> None:
        """Bring a message of an experiment to its inbox, or park it."""
        message = mail.message
        if not isinstance(message, ExperimentMessage):
            raise TypeError(f"{message.kind} is no message of an experiment")
        if isinstance(message, TaskProgress):
            mail.ack()
        dropped: Mail | None = None
        with self._lock:
            inbox = self._inboxes.get(message.experiment_id)
            if inbox is None and isinstance(message, TrainReply | TaskFailed):
                self._parked.append(mail)
                dropped = self._parked.popleft() if len(self._parked) > _PARKED else None
        if inbox is not None:
            inbox.put(mail)
        if dropped is not None:
            log.info(
                "answer to no experiment", extra={"action": "answer_dropped", "node": dropped.message.sender}
            )
            dropped.ack()

    def tell_all(self, item: NodeChange | PayloadWhole | PayloadDamaged | DiskFailed) -> None:
        """Tell every experiment."""
        with self._lock:
            inboxes = list(self._inboxes.values())
        for inbox in inboxes:
            inbox.put(item)
