"""Run one step of an asynchronous run: a round that leaves the tasks of others out for the next one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from common.ids import TaskId
from researcher.courier import Courier
from researcher.driver import RoundDriver
from researcher.flow import AsyncMachine
from researcher.history import RoundRecord
from researcher.intake import Intake
from researcher.order import Desk, RoundOrder
from researcher.patience import Patience
from researcher.round import CancelTask, Effect, RoundState, SendTask


@dataclass(frozen=True, slots=True)
class _Carried:
    """What one step hands to the next."""

    intake: Intake
    tasks: dict[TaskId, SendTask]
    patience: Patience
    couriers: dict[int, Courier]


class StepDriver(RoundDriver):
    """One step in the calling thread; `next` makes the driver of the one after it, in the same process.

    Answers are taken one by one, as the order in which they come decides what each of them counts for.
    """

    _gathers = False

    def __init__(
        self,
        desk: Desk,
        order: RoundOrder,
        machine: AsyncMachine,
        record: RoundRecord | None = None,
        earlier: Mapping[int, RoundOrder] | None = None,
        carried: _Carried | None = None,
    ) -> None:
        """Make the driver of a step.

        Args:
            desk: What to work with.
            order: The step.
            machine: Decides; fresh, restored, or the next one of the step before.
            record: The step as the ledger has it, if it was open when its process died.
            earlier: The orders of the steps whose tasks are out, if so.
            carried: What the step before left, if it was of this process.
        """
        self._flow = machine
        self._earlier = dict(earlier or {})
        self._carried = carried
        self._couriers = carried.couriers if carried else {}
        super().__init__(desk, order, record)
        if carried is not None:
            self._tasks, self._patience = carried.tasks, carried.patience
        self._couriers[order.round] = self._courier

    def next(self, order: RoundOrder) -> StepDriver:
        """Return the driver of the step after this one, which was closed."""
        carried = _Carried(self._intake, self._tasks, self._patience, self._couriers)
        return StepDriver(self._desk, order, self._flow.next(), carried=carried)

    def finish(self) -> None:
        """Want nothing more of the run, whose last step was closed."""
        self._intake.close()
        self._courier.cancel([CancelTask(node, task) for node, task in self._flow.waiting.items()])
        ledger, now = self._desk.ledger, self._desk.clock.now()
        self._intake.commit(partial(ledger.cancel_tasks, self._order.run, now))
        self._end_couriers(self._couriers.keys())

    def _make_machine(self) -> AsyncMachine:
        return self._flow

    def _make_intake(self) -> Intake:
        if self._carried is None:
            return super()._make_intake()
        self._carried.intake.turn(self._order, self._flow, self._opened_at)
        return self._carried.intake

    def _resume(self) -> list[Effect]:
        """Send again what is out, and return what is still to do."""
        rows = self._desk.ledger.outstanding(self._order.run)
        for round_, order in self._earlier.items():
            self._couriers[round_] = Courier(self._desk, order, resumed=True)
            self._intake.turn(order, self._flow, self._opened_at)
            for row in (row for row in rows if row.round == round_):
                self._know(SendTask(row.node, row.id, row.attempt))
        self._intake.turn(self._order, self._flow, self._opened_at)
        for row in self._desk.ledger.tasks(self._order.run, self._order.round):
            self._know(SendTask(row.node, row.id, row.attempt))
        effects = self._flow.start()
        for row in rows:
            if self._flow.waiting.get(row.node) == row.id and row.round in self._couriers:
                self._couriers[row.round].send([self._tasks[row.id]], None)
        self._announce()
        return effects

    def _send(self, tasks: Sequence[SendTask]) -> None:
        for attempt in sorted({task.attempt for task in tasks}):
            super()._send([task for task in tasks if task.attempt == attempt])

    @property
    def _goes_on(self) -> bool:
        return self._flow.state is RoundState.CLOSED

    def _clear(self) -> None:
        wanted = self._flow.rounds | {self._order.round} if self._goes_on else set()
        self._end_couriers(self._couriers.keys() - wanted)

    def _end_couriers(self, rounds: Collection[int]) -> None:
        for round_ in tuple(rounds):
            self._couriers.pop(round_).end()
        if not self._couriers:
            self._desk.parcels.clear()
