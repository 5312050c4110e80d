"""Bring the orders of a round to its nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from common.errors import TransportClosedError, UnknownPartyError
from common.ids import TaskId
from common.mailbox import failure
from common.messages import TaskCancel
from researcher.inbox import SendFailed
from researcher.order import Desk, RoundOrder
from researcher.round import CancelTask, SendTask


class Courier:
    """Sends the requests, the model and the cancellations of one round; what is not taken comes back as `SendFailed`."""

    def __init__(
        self, desk: Desk, order: RoundOrder, *, resumed: bool, taken: Callable[[], None] = lambda: None
    ) -> None:
        """Send nothing yet.

        Args:
            desk: What to work with.
            order: What is asked for.
            resumed: Whether nodes may have the model already.
            taken: Called on a thread of the transport each time the broker has a request, or a whole model, on disk.
        """
        self._desk = desk
        self._order = order
        self._resumed = resumed
        self._taken = taken

    def send(self, tasks: Sequence[SendTask], deadline: float | None) -> None:
        """Ask for these tasks in one message; the model goes with it, or after it in chunks."""
        hub, order = self._desk.hub, self._order
        nodes, ids = [task.node for task in tasks], tuple(task.task_id for task in tasks)
        model = self._desk.parcels.packed(order.sent)
        ledger = self._desk.ledger
        request = order.request(hub.party, tasks, deadline, ledger.last_counted(), ledger.updates_done())
        try:
            if isinstance(model, bytes):
                sent = hub.send(request, model)
            else:
                sent = hub.send(request, model.read_bytes() if order.sent.inline else b"")
        except UnknownPartyError as error:  # revoked meanwhile
            self._desk.inbox.put(SendFailed(ids, error))
            return
        sent.add_done_callback(partial(self._sent, ids))
        if order.sent.inline or isinstance(model, bytes):
            return
        hub.offer(model, order.sent, tuple(order.datasets))
        if not self._resumed and all(
            task.attempt == 1 for task in tasks
        ):  # later on nodes ask for what they miss
            hub.send_payload(model, order.sent, nodes).add_done_callback(partial(self._sent, ids))

    def cancel(self, tasks: Sequence[CancelTask]) -> None:
        """Tell nodes that these tasks are not wanted any more."""
        if not tasks:
            return
        message = TaskCancel(
            sender=self._desk.hub.party,
            recipients=tuple(task.node for task in tasks),
            experiment_id=self._order.experiment,
            run_id=self._order.run,
            tasks=tuple(task.task_id for task in tasks),
        )
        self._desk.hub.post(message)

    def end(self) -> None:
        """Give no more of the model."""
        self._desk.hub.withdraw(self._order.sent.sha256)

    def _sent(self, tasks: tuple[TaskId, ...], future: Future[None]) -> None:
        error = failure(future)
        if error is None:
            self._taken()
        elif not isinstance(error, TransportClosedError):
            self._desk.inbox.put(SendFailed(tasks, error))
