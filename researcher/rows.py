"""Turn the rows of a ledger into what they mean, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from sqlite3 import Row
from typing import Any, Final

from pydantic import TypeAdapter

from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import (
    ColumnMoments,
    DatasetDescription,
    GpuNotice,
    LossPoint,
    PayloadManifest,
    TaskTimings,
    Validation,
)
from common.messages.moments import Moments
from researcher.history import NodeRecord, RoundRecord
from researcher.round import Event, RoundState, TaskFailed, UpdateAccepted, UpdateRefused

_MOMENTS: Final[TypeAdapter[Moments]] = TypeAdapter(Moments)


class Outcome(StrEnum):
    """What became of an update."""

    ACCEPTED = "accepted"
    LATE = "late"
    REFUSED = "refused"
    QUARANTINED = "quarantined"
    """Another update with the same id was there first: somebody reports one task twice with different results."""


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """The experiment itself."""

    id: ExperimentId
    name: str
    created_at: float
    config: Mapping[str, Any]
    plan_name: str
    plan_hash: Digest
    plan_source: str
    run: RunId | None = None
    training_data: Mapping[PartyId, DatasetDescription] | None = None
    initial_model: Digest | None = None
    parent: Mapping[str, Any] | None = None
    """The experiment, round and model that it was branched from."""
    moments: tuple[ColumnMoments, ...] | None = None
    """Of columns over the training parts of all nodes, once they were asked for."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One node's share of one round."""

    id: TaskId
    run: RunId
    round: int
    node: PartyId
    dataset: DatasetId
    attempt: int
    sent_at: float = 0.0
    state: str = "sent"
    final: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CountedUpdate:
    """An update that is part of the model of a round.

    Attributes:
        node: Whose it is.
        round: The round in which it was asked for.
        base: The model that it started from.
        update: Describes its file.
        samples_seen: Samples that took part in optimisation steps, counted each time.
        samples_train: Samples in the training part.
        steps: Optimisation steps.
        lr_sum: Sum of the learning rates of these steps.
    """

    node: PartyId
    round: int
    base: Digest
    update: PayloadManifest
    samples_seen: int
    samples_train: int
    steps: int
    lr_sum: float | None


@dataclass(frozen=True, slots=True)
class _Told:
    """What is kept of a reply: its fields as the node told them."""

    update: PayloadManifest | None
    samples_seen: int
    samples_train: int
    samples_test: int
    steps: int
    lr_sum: float | None
    losses: tuple[LossPoint, ...]
    validations: tuple[Validation, ...]
    timings: TaskTimings
    device: str
    notice: GpuNotice | None
    moments: tuple[ColumnMoments, ...] | None


TOLD: Final = {field.name for field in fields(_Told)}
_TOLD: Final = TypeAdapter(_Told)


def experiment_columns(experiment: ExperimentRow) -> dict[str, object]:
    """Return an experiment as a row of `experiment`, by column."""
    data, parent, moments = experiment.training_data, experiment.parent, experiment.moments
    described = {node: one.model_dump(mode="json") for node, one in (data or {}).items()}
    return {
        "id": experiment.id,
        "name": experiment.name,
        "created_at": experiment.created_at,
        "run": experiment.run,
        "config": json.dumps(dict(experiment.config)),
        "plan_name": experiment.plan_name,
        "plan_hash": experiment.plan_hash,
        "plan_source": experiment.plan_source,
        "training_data": None if data is None else json.dumps(described),
        "initial_model": experiment.initial_model,
        "parent": None if parent is None else json.dumps(dict(parent)),
        "moments": None if moments is None else _MOMENTS.dump_json(moments).decode(),
    }


def experiment_row(row: Row) -> ExperimentRow:
    """Return a row of `experiment`."""
    data = json.loads(row["training_data"] or "{}")
    return ExperimentRow(
        id=row["id"],
        name=row["name"],
        created_at=row["created_at"],
        config=json.loads(row["config"]),
        plan_name=row["plan_name"],
        plan_hash=row["plan_hash"],
        plan_source=row["plan_source"],
        run=row["run"],
        training_data={node: DatasetDescription.model_validate(one) for node, one in data.items()} or None,
        initial_model=row["initial_model"],
        parent=json.loads(row["parent"] or "null"),
        moments=None if row["moments"] is None else _MOMENTS.validate_json(row["moments"]),
    )


def task_row(row: Row) -> TaskRow:
    """Return a row of `tasks`."""
    return TaskRow(
        id=row["id"],
        run=row["run"],
        round=row["round"],
        node=row["node"],
        dataset=row["dataset"],
        attempt=row["attempt"],
        sent_at=row["sent_at"],
        state=row["state"],
        final=bool(row["final"]),
        reason=row["reason"],
    )


def node_record(row: Row) -> NodeRecord:
    """Return a row of `tasks`, joined with the update of the task if there is one."""
    record = NodeRecord(
        node=row["node"],
        outcome=row["outcome"] or row["state"],
        attempt=row["attempt"],
        code=row["code"],
        reason=row["update_reason"] or row["reason"],
    )
    if row["record"] is None:
        return record
    told = _TOLD.validate_json(row["record"])
    return replace(
        record,
        digest=row["digest"] or None,
        update_bytes=told.update.size_bytes if told.update else 0,
        answered_s=row["arrived_at"] - row["opened_at"],
        samples_seen=told.samples_seen,
        samples_train=told.samples_train,
        samples_test=told.samples_test,
        losses=told.losses,
        validations=told.validations,
        timings=told.timings,
        device=told.device,
        notice=told.notice,
        moments=told.moments,
    )


def round_columns(record: RoundRecord) -> dict[str, object]:
    """Return a round that is about to begin as a row of `rounds`, by column."""
    optimizer = record.agg_optimizer
    return {
        "run": record.run,
        "round": record.round,
        "kind": record.kind,
        "state": record.state,
        "base": record.base,
        "sent": record.sent.model_dump_json(),
        "encoding": record.encoding,
        "reserve": json.dumps(record.reserve),
        "aggregator": json.dumps(dict(record.aggregator)),
        "agg_optimizer": None if optimizer is None else json.dumps(dict(optimizer)),
        "strategy": json.dumps(dict(record.strategy)),
        "opened_at": record.opened_at,
        "members": record.members,
        "deadline": record.deadline,
    }


def round_record(row: Row) -> RoundRecord:
    """Return a row of `rounds`, without its nodes."""
    timings = {name: row[name] for name in ("broadcast_s", "collect_s", "aggregate_s", "save_s")}
    return RoundRecord(
        round=row["round"],
        run=row["run"],
        kind=row["kind"],
        state=RoundState(row["state"]),
        reason=row["reason"],
        base=row["base"],
        sent=PayloadManifest.model_validate_json(row["sent"]),
        encoding=row["encoding"],
        model=row["model"],
        reserve=tuple(json.loads(row["reserve"])),
        aggregator=json.loads(row["aggregator"]),
        agg_optimizer=json.loads(row["agg_optimizer"] or "null"),
        strategy=json.loads(row["strategy"]),
        opened_at=row["opened_at"],
        members=row["members"],
        deadline=row["deadline"],
        closed_at=row["closed_at"],
        timings=timings,
    )


def counted_update(row: Row) -> CountedUpdate:
    """Return a row of `updates` that holds tensors, joined with its task and the round of that."""
    told = _TOLD.validate_json(row["record"])
    if told.update is None:
        raise RuntimeError("an update that counts in a model has tensors")
    return CountedUpdate(
        node=row["node"],
        round=row["round"],
        base=row["base"],
        update=told.update,
        samples_seen=told.samples_seen,
        samples_train=told.samples_train,
        steps=told.steps,
        lr_sum=told.lr_sum,
    )


def event_of(task: TaskRow, at: float) -> Event | None:
    """Return what the ledger remembers of a task as the event that it was."""
    reason = task.reason or ""
    if task.state == "accepted":
        return UpdateAccepted(task.id, at)
    if task.state == "refused":
        return UpdateRefused(task.id, reason, at)
    return TaskFailed(task.id, reason, final=task.final, at=at) if task.state == "failed" else None
