"""Make the answers to tasks, and say everywhere that they were made: in journal, audit log, figures and log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from common.audit.record import Action, Entry
from common.clock import Clock
from common.errors import WarrenError
from common.ids import PartyId, TaskId
from common.messages import PayloadManifest, TrainRequest
from node.audit import task_entry, update_entry
from node.figures import count_task, note_device, note_losses, observe_steps
from node.journal import Journal
from node.leaving import refusal, screened
from node.outbox import Outbox
from node.policy import Policy
from node.replies import failed, task_timings, trained
from node.shift import Running
from node.stock import Stock
from node.task_events import Failure
from node.worker.harvest import Harvest
from node.worker.protocol import Done

log = logging.getLogger(__name__)


class Answers:
    """What a node says of its tasks in the end. Used by the agent's thread only, inside a transaction of the journal."""

    def __init__(
        self,
        node: PartyId,
        journal: Journal,
        stock: Stock,
        outbox: Outbox,
        policy: Policy,
        *,
        record: Callable[[Entry], None],
        clock: Clock,
    ) -> None:
        """Wire the parts together; `record` takes what the audit log must say before the transaction ends."""
        self._node = node
        self._journal = journal
        self._stock = stock
        self._outbox = outbox
        self._policy = policy
        self._record = record
        self._clock = clock

    def problem(self, running: Running, done: Done, made: Harvest) -> WarrenError | None:
        """Return why what a worker made must not leave, or None if it may."""
        return made.error or refusal(done, running.request, self._policy, running.dataset)

    def trained(self, running: Running, done: Done, made: Harvest) -> None:
        """Answer with what a worker made, which has no problem: keep update and state, and hand the reply to the outbox."""
        task, request = running.task, running.request
        started = self._clock.monotonic()
        manifest: PayloadManifest | None = None
        if made.update:
            manifest = self._stock.keep_update(made.update, request.encoding, done.update_decoded_bytes)
        if made.state:
            self._stock.keep_state(task, made.state, self._clock.now())
        waited_s, taken_s = running.started_at - task.received_at, self._clock.monotonic() - started
        timings = task_timings(done, task.received_at, waited_s, taken_s)
        reply = trained(self._node, request, screened(done, self._policy), manifest, timings)
        self._record(update_entry(request, reply, running.dataset))
        self._journal.answer(reply, manifest.sha256 if manifest else None)
        content = made.update.content if made.update else None
        self._outbox.add(reply, content if isinstance(content, bytes) else None)
        count_task("trained")
        observe_steps(timings)
        note_losses(task.experiment_id, reply.losses)
        note_device(task.experiment_id, done)
        log.info(
            "task trained",
            extra={
                "action": "task_trained",
                "experiment": task.experiment_id,
                "round": task.round,
                "task": task.task_id,
                "samples": done.samples_seen,
                "device": done.device,
                "trained_s": timings.trained_s,
                "update_bytes": manifest.size_bytes if manifest else 0,
            },
        )

    def failed(self, request: TrainRequest, task_id: TaskId, reason: Failure) -> None:
        """Answer that a task is not done, and why."""
        reply = failed(self._node, request, task_id, reason)
        self._record(task_entry(request, task_id, Action.TASK_FAILED, by=self._node, failure=reason))
        self._journal.answer(reply, None)
        self._outbox.add(reply)
        count_task("failed", code=reason.code)
        log.info(
            "task not done",
            extra={
                "action": "task_not_done",
                "experiment": request.experiment_id,
                "round": request.round,
                "task": task_id,
                "code": reason.code,
            },
        )
