"""Hold what a round needs to know, and write it as the request that nodes get and as what the ledger keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.clock import Clock
from common.ids import Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages import Assignment, ColumnMoments, DatasetDescription, PayloadManifest, TrainRequest
from common.optimizers import Optimizer, optimizer_config
from common.payload.encodings.choice import Encoding
from common.training_args import TrainingArgs
from researcher.aggregators import Aggregator, StatefulAggregator, aggregator_config
from researcher.history import Kind, RoundRecord
from researcher.holdings import Holdings
from researcher.hub import Hub
from researcher.inbox import Inbox
from researcher.ledger import Ledger
from researcher.monitoring.events import Notify
from researcher.parcels import Parcels
from researcher.round import RoundState, SendTask
from researcher.rows import TaskRow
from researcher.strategies import AnyStrategy, AsyncStrategy, strategy_config


@dataclass(frozen=True, slots=True)
class Desk:
    """What all rounds of an experiment work with."""

    hub: Hub
    inbox: Inbox
    ledger: Ledger
    store: Holdings
    parcels: Parcels
    folder: Path
    clock: Clock
    reply_s: float
    progress_s: float
    notify: Notify


@dataclass(frozen=True, slots=True)
class RoundOrder:
    """One round as it was decided.

    Attributes:
        experiment: The experiment.
        run: Its incarnation.
        round: Number of the round, from 1.
        kind: Whether nodes train, only validate the model that they get, or only tell moments of columns.
        base: Digest of that model.
        sent: That model as it goes to the nodes.
        encoding: How they are to encode their updates.
        plan_name: Class of the plan.
        plan_hash: Hash of its source.
        plan_source: Its source.
        model_args: Arguments of the model.
        training_args: Arguments of training.
        nodes: Whom to ask.
        reserve: Who may be asked in place of others, in this order.
        sampled: How many were asked at first.
        datasets: The data set of each of them.
        strategy: Decides when the round may close.
        aggregator: Makes the new model.
        agg_optimizer: Steps towards it, if there is one.
        members: Nodes that take part in the experiment, asked in this round or not.
        moments: Of columns over all nodes, if they are wanted and known.
    """

    experiment: ExperimentId
    run: RunId
    round: int
    kind: Kind
    base: Digest
    sent: PayloadManifest
    encoding: Encoding
    plan_name: str
    plan_hash: Digest
    plan_source: str
    model_args: Mapping[str, Any]
    training_args: TrainingArgs
    nodes: tuple[PartyId, ...]
    reserve: tuple[PartyId, ...]
    sampled: int
    datasets: Mapping[PartyId, DatasetDescription]
    strategy: AnyStrategy
    aggregator: Aggregator
    agg_optimizer: Optimizer | None
    members: int
    moments: tuple[ColumnMoments, ...] | None = None

    def record(self, opened_at: float, deadline: float | None) -> RoundRecord:
        """Return the round as it begins, for the ledger."""
        return RoundRecord(
            round=self.round,
            run=self.run,
            kind=self.kind,
            state=RoundState.OPEN,
            base=self.base,
            sent=self.sent,
            encoding=str(self.encoding),
            reserve=self.reserve,
            aggregator=aggregator_config(self.aggregator),
            agg_optimizer=optimizer_config(self.agg_optimizer),
            strategy=strategy_config(self.strategy),
            opened_at=opened_at,
            members=self.members,
            deadline=deadline,
        )

    def row(self, task: SendTask, sent_at: float) -> TaskRow:
        """Return one of its tasks as it is sent, for the ledger."""
        return TaskRow(
            id=task.task_id,
            run=self.run,
            round=self.round,
            node=task.node,
            dataset=self.datasets[task.node].dataset_id,
            attempt=task.attempt,
            sent_at=sent_at,
        )

    def request(
        self,
        sender: PartyId,
        tasks: Sequence[SendTask],
        deadline: float | None,
        states: Mapping[PartyId, TaskId],
        updates_done: Mapping[PartyId, int],
    ) -> TrainRequest:
        """Return the one message that asks for all these tasks; in an asynchronous run they are of one attempt.

        Args:
            sender: Who asks.
            tasks: What for.
            deadline: Unix time after which nobody needs the answers.
            states: The task that each node's task builds on.
            updates_done: How many optimisation steps each node was asked for before, as far as its updates count.
        """
        return TrainRequest(
            sender=sender,
            recipients=tuple(task.node for task in tasks),
            deadline=deadline,
            experiment_id=self.experiment,
            run_id=self.run,
            round=self.round,
            assignments=tuple(
                Assignment(
                    node=task.node,
                    task_id=task.task_id,
                    dataset_id=self.datasets[task.node].dataset_id,
                    state_of=states.get(task.node),
                    updates_done=updates_done.get(task.node, 0),
                )
                for task in tasks
            ),
            plan_name=self.plan_name,
            plan_hash=self.plan_hash,
            source=self.plan_source,
            model_args=dict(self.model_args),
            training_args=self.training_args,
            train=self.kind == "train",
            seed=round_seed(
                self.training_args.random_seed or 0,
                self.round,
                draw=tasks[0].attempt if isinstance(self.strategy, AsyncStrategy) else 1,
            ),
            model=self.sent,
            encoding=str(self.encoding),
            correction=self.aggregator.correction()
            if self.kind == "train" and isinstance(self.aggregator, StatefulAggregator)
            else None,
            moments=self.moments,
        )


def round_seed(seed: int, round_: int, *, draw: int = 1) -> int:
    """Return the seed of a round: 48 bits, the same everywhere. Another draw is for training again from the same model."""
    text = f"round\x1f{seed}\x1f{round_}" + (f"\x1f{draw}" if draw > 1 else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
