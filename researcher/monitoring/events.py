"""Define what an observer of an experiment is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from common.ids import ExperimentId, PartyId, RunId
from common.messages import LossPoint, TaskState
from researcher.history import Kind, NodeRecord, RoundRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Rounds are about to begin."""

    experiment: ExperimentId
    name: str
    run: RunId
    nodes: tuple[PartyId, ...]
    first: int
    """Number of the first round."""
    last: int
    """Number of the last round if all goes well."""


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """A round began; `resumed` if it had begun before."""

    round: int
    kind: Kind
    nodes: tuple[PartyId, ...]
    at: float
    resumed: bool


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node came or went."""

    node: PartyId
    online: bool
    at: float


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """A node told how far its task is; may be missing or come late."""

    round: int
    node: PartyId
    state: TaskState
    losses: tuple[LossPoint, ...]


@dataclass(frozen=True, slots=True)
class UpdateArrived:
    """A node's answer is accounted for; `record.outcome` says how."""

    round: int
    record: NodeRecord


@dataclass(frozen=True, slots=True)
class TaskLost:
    """A node could not do its task; `retried` if it was asked again."""

    round: int
    node: PartyId
    reason: str
    retried: bool


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round was closed, failed or cancelled."""

    record: RoundRecord


@dataclass(frozen=True, slots=True)
class StoppedEarly:
    """No further round is worth it, says the early stopping of the experiment."""

    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """No more rounds are run for now."""

    rounds: int
    """Rounds closed since `RunStarted`."""
    error: str | None
    total_s: float


Event = (
    RunStarted
    | RoundOpened
    | NodeChanged
    | NodeProgress
    | UpdateArrived
    | TaskLost
    | RoundEnded
    | StoppedEarly
    | RunEnded
)


class Notify(Protocol):
    """Takes events that happened, in their order."""

    def __call__(self, *events: Event) -> None:
        """Record them, then tell every observer."""
        ...


class Observer(Protocol):
    """Whoever wants to know what an experiment does."""

    def on_event(self, event: Event) -> None:
        """Take note of an event, quickly: the round waits. Called in the thread that runs the experiment."""
        ...


def tell(observers: list[Observer], events: Sequence[Event]) -> None:
    """Tell observers of events that happened; one that fails is told of no more, and the others go on."""
    for observer in list(observers):
        try:
            for event in events:
                observer.on_event(event)
        except Exception:
            observers.remove(observer)
            log.exception("observer failed", extra={"action": "observer_failed"})
