"""Decide what a round is: who is asked, for what, from which model, and who says when it is closed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.errors import NoNodesError
from common.ids import Digest
from common.messages import PayloadManifest
from common.payload.encodings.choice import Encoding
from researcher.aggregators import StatefulAggregator
from researcher.contributions import recalled
from researcher.history import Kind, RoundRecord
from researcher.order import Desk, RoundOrder
from researcher.rows import ExperimentRow
from researcher.settings import ExperimentSettings
from researcher.strategies import AnyStrategy, AsyncStrategy, DefaultStrategy, Sample, Strategy, strategy_of


class Agenda:
    """The rounds of one experiment as orders: as its settings have them, or for one that is on record as it was decided then."""

    def __init__(self, desk: Desk, settings: ExperimentSettings) -> None:
        self._desk = desk
        self._settings = settings

    def new(self, row: ExperimentRow, round_: int, kind: Kind) -> RoundOrder:
        """Decide a round, and pack its model.

        Raises:
            NoNodesError: If the strategy chooses no node.
        """
        strategy = DefaultStrategy() if self._together(kind) else self._settings.strategy
        if kind == "measure" or isinstance(strategy, AsyncStrategy):
            sample = _everyone(row)
        else:
            sample = self._sample(row, round_, strategy)
        last = self._desk.ledger.last_model()
        base = last[1] if last else row.initial_model
        if base is None:
            raise RuntimeError("the run was not prepared")
        sent = self._desk.parcels.pack(
            base,
            self._settings.encoding,
            beside=isinstance(strategy, AsyncStrategy),
            carried=self._carried(round_) if kind == "train" else None,
        )
        return self._order(row, round_, kind, strategy, sample, base, sent)

    def again(self, row: ExperimentRow, record: RoundRecord) -> RoundOrder:
        """Return a round as it was decided; one that is open keeps its kind of strategy."""
        strategy: AnyStrategy = DefaultStrategy() if self._together(record.kind) else self._settings.strategy
        if record.strategy["name"] != type(strategy).__name__:
            strategy = strategy_of(dict(record.strategy))
        if isinstance(strategy, AsyncStrategy):
            sample = _everyone(row)
            sampled = len(sample.nodes)
        else:
            asked = {task.node for task in self._desk.ledger.tasks(record.run, record.round)}
            reserve = tuple(node for node in record.reserve if node not in asked)
            sample = Sample(tuple(sorted(asked)), reserve)
            sampled = len(asked.difference(record.reserve))
        order = self._order(row, record.round, record.kind, strategy, sample, record.base, record.sent)
        encoding = Encoding.parse(record.encoding)
        return replace(order, encoding=encoding, sampled=sampled, members=record.members)

    def _together(self, kind: Kind) -> bool:
        """Tell whether everybody is waited for, whatever is set: so they validate, and are measured if nothing else closes a round."""
        return kind == "validate" or (
            kind == "measure" and isinstance(self._settings.strategy, AsyncStrategy)
        )

    def _sample(self, row: ExperimentRow, round_: int, strategy: Strategy) -> Sample:
        """Choose the nodes of a round among those that were not lost lately."""
        data = row.training_data or {}
        left_out = self._desk.ledger.lost(strategy.leave_out_rounds)
        available = {node: one.samples for node, one in sorted(data.items()) if node not in left_out}
        sample = strategy.sample_nodes(available, round_)
        if not sample.nodes:
            raise NoNodesError(round=round_, available=", ".join(sorted(data)))
        return sample

    def _order(
        self,
        row: ExperimentRow,
        round_: int,
        kind: Kind,
        strategy: AnyStrategy,
        sample: Sample,
        base: Digest,
        sent: PayloadManifest,
    ) -> RoundOrder:
        settings = self._settings
        if row.run is None or row.training_data is None:
            raise RuntimeError("the run was not prepared")
        return RoundOrder(
            experiment=row.id,
            run=row.run,
            round=round_,
            kind=kind,
            base=base,
            sent=sent,
            encoding=settings.encoding,
            plan_name=row.plan_name,
            plan_hash=row.plan_hash,
            plan_source=row.plan_source,
            model_args=settings.model_args,
            training_args=settings.training_args,
            nodes=sample.nodes,
            reserve=sample.reserve,
            sampled=len(sample.nodes),
            datasets={node: row.training_data[node] for node in sample.nodes + sample.reserve},
            strategy=strategy,
            aggregator=settings.aggregator,
            agg_optimizer=settings.agg_optimizer,
            members=len(row.training_data),
            moments=row.moments if settings.training_args.moments == "federation" else None,
        )

    def _carried(self, round_: int) -> Path | None:
        """Return what the aggregator remembers, if nodes need that."""
        aggregator = self._settings.aggregator
        if not isinstance(aggregator, StatefulAggregator) or not aggregator.carries:
            return None
        return recalled(self._desk.folder, self._desk.ledger, round_, aggregator)


def _everyone(row: ExperimentRow) -> Sample:
    return Sample(tuple(sorted(row.training_data or ())))
