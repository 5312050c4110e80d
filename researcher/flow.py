"""Decide what happens in one step of an asynchronous run: a pure machine like that of a round, with the same events and effects.

    open ──the buffer is full──▶ closed ──next()──▶ open, one step further, with the tasks that are out
      ├────no node is left─────▶ failed
      └────CancelAsked─────────▶ cancelled

A step is a round of the ledger. A task belongs to the step in which it was sent, an update counts in the step that is open when
it comes. Each node has one task out, or none because it was lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from common.ids import PartyId, RunId, TaskId, task_id
from researcher.round import (
    CancelAsked,
    CancelTask,
    CloseRound,
    Effect,
    Event,
    FailRound,
    NodeOffline,
    NodeOnline,
    RoundState,
    SendTask,
    TaskFailed,
    UpdateAccepted,
    UpdateRefused,
)
from researcher.rows import TaskRow
from researcher.strategies.asynchronous import AsyncStrategy
from researcher.strategies.base import reasons


@dataclass(slots=True)
class _Node:
    task: TaskId | None = None
    round: int = 0
    """Of the task."""
    attempts: int = 0
    """Tasks that it was sent in this step."""
    failures: int = 0
    """In a row."""
    lost: str | None = None


class AsyncMachine:
    """One step."""

    deadline: float | None = None

    def __init__(self, round_: int, run: RunId, nodes: Sequence[PartyId], strategy: AsyncStrategy) -> None:
        """Make the machine of the first step of a run; `start` begins it.

        Args:
            round_: Number of the step.
            run: The incarnation of the experiment, part of the task ids.
            nodes: Who trains, without duplicates.
            strategy: Says when a step closes and what is too stale.
        """
        self.round = round_
        self.state = RoundState.OPEN
        self._run = run
        self._strategy = strategy
        self._nodes = {node: _Node() for node in sorted(nodes)}
        self._counted: list[TaskId] = []
        self._offline: set[PartyId] = set()

    @classmethod
    def restored(
        cls,
        round_: int,
        run: RunId,
        nodes: Sequence[PartyId],
        strategy: AsyncStrategy,
        tasks: Iterable[TaskRow],
        counted: Iterable[TaskId],
    ) -> Self:
        """Return the machine of a step that was open when its process died.

        Args:
            round_: Number of the step.
            run: The run.
            nodes: Who trains.
            strategy: As before.
            tasks: All tasks of the run, those of each node in the order in which they were sent.
            counted: Those whose updates count in this step.
        """
        machine = cls(round_, run, nodes, strategy)
        machine._counted = list(counted)
        for task in tasks:
            node = machine._nodes[task.node]
            node.task, node.round = (task.id, task.round) if task.state == "sent" else (None, 0)
            node.attempts += task.round == round_
            if task.state == "failed":
                machine._fail(node, task.reason or "", final=task.final)
            elif task.state == "refused":
                node.lost = task.reason or ""
            elif task.state == "accepted":
                node.failures = 0
        return machine

    def next(self) -> AsyncMachine:
        """Return the machine of the step after one that was closed."""
        machine = AsyncMachine(self.round + 1, self._run, tuple(self._nodes), self._strategy)
        machine._offline = set(self._offline)
        for name, node in self._nodes.items():
            machine._nodes[name] = _Node(node.task, node.round, 0, node.failures, node.lost)
        return machine

    def start(self) -> list[Effect]:
        """Return the first orders: a task with the newest model for each node that has none, or one that is too stale."""
        return list(self._start())

    def handle(self, event: Event) -> list[Effect]:
        """Take one event into account and return what to do; after the end that is nothing."""
        return list(self._handle(event)) if self.state is RoundState.OPEN else []

    def grant(self, until: float) -> None:
        """Do nothing: a step has no deadline."""

    def admits(self, task: TaskId) -> bool:
        """Tell whether an update of this task would be counted now."""
        return self.state is RoundState.OPEN and any(node.task == task for node in self._nodes.values())

    @property
    def waiting(self) -> dict[PartyId, TaskId]:
        """Return the nodes that may still answer, with their tasks, in node order."""
        return {name: node.task for name, node in self._nodes.items() if node.task is not None}

    @property
    def expected(self) -> dict[PartyId, TaskId]:
        """Return those of the waiting nodes that are not known to be away, with their tasks."""
        return {name: task for name, task in self.waiting.items() if name not in self._offline}

    @property
    def accepted(self) -> tuple[TaskId, ...]:
        """Return the tasks whose updates count in this step, in the order in which they came."""
        return tuple(self._counted)

    @property
    def rounds(self) -> set[int]:
        """Return the numbers of the steps whose tasks are out."""
        return {node.round for node in self._nodes.values() if node.task is not None}

    def _start(self) -> Iterator[Effect]:
        if len(self._counted) >= self._strategy.buffer:
            yield from self._close()
            return
        for name, node in self._nodes.items():
            if node.task is not None and not self._strategy.uses(self.round - node.round):
                yield CancelTask(name, node.task)
                node.task = None
            if node.task is None and node.lost is None:
                yield self._ask(name, node)
        yield from self._fail_alone()

    def _handle(self, event: Event) -> Iterator[Effect]:
        match event:
            case NodeOnline(name):
                self._offline.discard(name)
            case NodeOffline(name):
                self._offline.add(name)
            case UpdateAccepted(task) if self.admits(task):
                name, node = self._settle(task)
                node.failures = 0
                self._counted.append(task)
                if len(self._counted) >= self._strategy.buffer:
                    yield from self._close()
                else:
                    yield self._ask(name, node)
            case UpdateRefused(task, reason) if self.admits(task):
                _, node = self._settle(task)
                node.lost = reason
                yield from self._fail_alone()
            case TaskFailed(task, reason, final) if self.admits(task):
                name, node = self._settle(task)
                self._fail(node, reason, final=final)
                if node.lost is None:
                    yield self._ask(name, node)
                yield from self._fail_alone()
            case CancelAsked():
                yield from self._end(RoundState.CANCELLED, FailRound("cancelled", cancelled=True))
            case _:
                return  # an answer to a task that is settled already

    def _settle(self, task: TaskId) -> tuple[PartyId, _Node]:
        name, node = next((name, node) for name, node in self._nodes.items() if node.task == task)
        node.task = None
        return name, node

    def _fail(self, node: _Node, reason: str, *, final: bool) -> None:
        node.failures += 1
        if final or node.failures > self._strategy.retries:
            node.lost = reason

    def _ask(self, name: PartyId, node: _Node) -> SendTask:
        node.attempts += 1
        node.task, node.round = task_id(self._run, self.round, name, node.attempts), self.round
        return SendTask(name, node.task, node.attempts)

    def _close(self) -> Iterator[Effect]:
        self.state = RoundState.CLOSED
        yield CloseRound(self.accepted)

    def _fail_alone(self) -> Iterator[Effect]:
        lost = {name: node.lost for name, node in self._nodes.items() if node.lost is not None}
        if len(lost) == len(self._nodes):
            yield from self._end(RoundState.FAILED, FailRound(reasons(lost)))

    def _end(self, state: RoundState, last: FailRound) -> Iterator[Effect]:
        outstanding = self.waiting
        self.state = state
        for name, task in outstanding.items():
            yield CancelTask(name, task)
        yield last
