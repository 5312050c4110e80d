"""Decide what happens in one round: a pure machine, events in, effects out.

    open ──strategy: close──▶ closed
      ├────strategy: fail───▶ failed
      └────CancelAsked──────▶ cancelled

Each node asked is waiting, accepted or lost. The machine knows neither time nor disk: events carry the time, and an event is
handed in only after what it says is in the ledger. Fed with the same events it decides the same, which is how a round is
resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.ids import PartyId, RunId, TaskId, task_id
from researcher.strategies.base import Ask, Close, Fail, RoundView, Strategy, Wait


class RoundState(StrEnum):
    """How a round stands."""

    OPEN = "open"
    CLOSED = "closed"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Events: what happened, and when (Unix seconds).


@dataclass(frozen=True, slots=True)
class NodeOnline:
    """A node is connected."""

    node: PartyId
    at: float


@dataclass(frozen=True, slots=True)
class NodeOffline:
    """A node left or fell silent."""

    node: PartyId
    at: float


@dataclass(frozen=True, slots=True)
class UpdateAccepted:
    """An update passed the gate and is on disk."""

    task_id: TaskId
    at: float


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """An update did not pass the gate."""

    task_id: TaskId
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A node could not do its task, or could not be asked."""

    task_id: TaskId
    reason: str
    final: bool
    at: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The deadline was looked at; it counts if it has passed."""

    at: float


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """A person wants the round to stop."""

    at: float


Event = NodeOnline | NodeOffline | UpdateAccepted | UpdateRefused | TaskFailed | DeadlinePassed | CancelAsked

# Effects: what to do, in this order.


@dataclass(frozen=True, slots=True)
class SendTask:
    """Ask a node for its share."""

    node: PartyId
    task_id: TaskId
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelTask:
    """Tell a node that its answer is not wanted any more."""

    node: PartyId
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class CloseRound:
    """Aggregate the updates of these tasks, in this order."""

    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class FailRound:
    """Give the round up."""

    reason: str
    cancelled: bool = False


Effect = SendTask | CancelTask | CloseRound | FailRound


class RoundMachine:
    """One round."""

    def __init__(
        self,
        round_: int,
        run: RunId,
        nodes: Sequence[PartyId],
        strategy: Strategy,
        opened_at: float,
        *,
        reserve: Sequence[PartyId] = (),
        sampled: int | None = None,
    ) -> None:
        """Make the machine of a round; `start` begins it.

        Args:
            round_: Number of the round.
            run: The incarnation of the experiment, part of the task ids.
            nodes: Whom to ask, without duplicates.
            strategy: Decides when the round may close.
            opened_at: When the round was opened, Unix seconds.
            reserve: Who may be asked too, in this order.
            sampled: How many were asked at first; all of `nodes` if not given.
        """
        self.round = round_
        self.state = RoundState.OPEN
        limit_s = strategy.deadline_s
        self.deadline = None if limit_s is None else opened_at + limit_s
        self._run = run
        self._strategy = strategy
        self._nodes = tuple(sorted(nodes))
        self._reserve = tuple(reserve)
        self._sampled = len(self._nodes) if sampled is None else sampled
        self._attempts = dict.fromkeys(self._nodes, 1)
        self._current = {self._task(node): node for node in self._nodes}
        self._accepted: dict[PartyId, TaskId] = {}
        self._lost: dict[PartyId, str] = {}
        self._offline: set[PartyId] = set()
        self._overdue = False

    def start(self) -> list[Effect]:
        """Return the first orders: one task for each node."""
        return [SendTask(node, self._task(node), 1) for node in self._nodes]

    def handle(self, event: Event) -> list[Effect]:
        """Take one event into account and return what to do; after the end that is nothing."""
        if self.state is not RoundState.OPEN:
            return []
        return list(self._handle(event))

    def grant(self, until: float) -> None:
        """Move the deadline to `until` if it is earlier."""
        if self.deadline is not None:
            self.deadline = max(self.deadline, until)

    def admits(self, task: TaskId) -> bool:
        """Tell whether an update of this task would be counted now."""
        return self.state is RoundState.OPEN and self._current.get(task) in self.waiting

    @property
    def waiting(self) -> dict[PartyId, TaskId]:
        """Return the nodes that may still answer, with their tasks, in node order."""
        return {
            node: task
            for task, node in self._current.items()
            if node not in self._accepted and node not in self._lost
        }

    @property
    def expected(self) -> dict[PartyId, TaskId]:
        """Return those of the waiting nodes that are not known to be away, with their tasks."""
        return {node: task for node, task in self.waiting.items() if node not in self._offline}

    @property
    def accepted(self) -> tuple[TaskId, ...]:
        """Return the tasks whose updates count, in node order."""
        return tuple(self._accepted[node] for node in self._nodes if node in self._accepted)

    def _handle(self, event: Event) -> Iterator[Effect]:
        match event:
            case NodeOnline(node):
                self._offline.discard(node)
            case NodeOffline(node):
                self._offline.add(node)
            case UpdateAccepted(task) if self.admits(task):
                self._accepted[self._current[task]] = task
            case UpdateRefused(task, reason) if self.admits(task):
                self._lost[self._current[task]] = reason
            case TaskFailed(task, reason, final) if self.admits(task):
                node = self._current[task]
                if not final and self._attempts[node] <= self._strategy.retries:
                    yield self._try_again(node, task)
                else:
                    self._lost[node] = reason
            case DeadlinePassed(at):
                self._overdue = self.deadline is not None and at >= self.deadline
            case CancelAsked():
                yield from self._end(RoundState.CANCELLED, FailRound("cancelled", cancelled=True))
                return
            case _:
                return  # an answer to a task that is settled already
        yield from self._decide()

    def _decide(self) -> Iterator[Effect]:
        waiting = self.waiting.keys()
        view = RoundView(
            round=self.round,
            accepted=self._accepted.keys(),
            lost=self._lost,
            waiting=waiting,
            offline=waiting & self._offline,
            overdue=self._overdue,
            sampled=self._sampled,
            reserve=self._reserve,
        )
        match self._strategy.decide(view):
            case Close():
                yield from self._end(RoundState.CLOSED, CloseRound(self.accepted))
            case Fail(reason):
                yield from self._end(RoundState.FAILED, FailRound(reason))
            case Ask(count):
                yield from self._ask(count)
            case Wait():
                pass

    def _ask(self, count: int) -> Iterator[Effect]:
        nodes, self._reserve = self._reserve[:count], self._reserve[count:]
        self._nodes = tuple(sorted(self._nodes + nodes))
        for node in nodes:
            self._attempts[node] = 1
            task = self._task(node)
            self._current[task] = node
            yield SendTask(node, task, 1)
        self._current = dict(sorted(self._current.items(), key=lambda item: item[1]))
        if nodes:
            yield from self._decide()  # one of them may be away, too

    def _end(self, state: RoundState, last: Effect) -> Iterator[Effect]:
        outstanding = self.waiting
        self.state = state
        for node, task in outstanding.items():
            yield CancelTask(node, task)
        yield last

    def _try_again(self, node: PartyId, failed: TaskId) -> SendTask:
        self._attempts[node] += 1
        task = self._task(node)
        self._current = {task if old == failed else old: name for old, name in self._current.items()}
        return SendTask(node, task, self._attempts[node])

    def _task(self, node: PartyId) -> TaskId:
        return task_id(self._run, self.round, node, self._attempts[node])
