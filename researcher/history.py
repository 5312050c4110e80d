"""Show what happened in an experiment: one record for each round, one in it for each node."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, overload

from rich.console import Group

from common.cli import table
from common.errors import InvalidSettingsError, MissingExtraError
from common.ids import Digest, PartyId, RunId
from common.messages import ColumnMoments, GpuNotice, LossPoint, PayloadManifest, TaskTimings, Validation
from researcher.chart import Chart, chart_of
from researcher.page import html_of
from researcher.round import RoundState
from researcher.scores import LOSS, On, Score, scores_of

_SHOWN: Final = 30
"""So many of the last rounds are shown in a notebook."""

Kind = Literal["train", "validate", "measure"]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What one node contributed to a round, as it told itself.

    Attributes:
        node: The node.
        outcome: `accepted`, `refused`, `late`, `failed`, `cancelled`, or `sent` while nothing has come.
        attempt: Which attempt this was, from 1.
        code: Code of the failure, if any.
        reason: Why it failed or was refused.
        digest: Names the update; none when there is none.
        update_bytes: Size of the update as it came.
        answered_s: Seconds from the opening of the round to the arrival of the answer.
        samples_seen: Samples that took part in optimisation steps, counted each time.
        samples_train: Samples in the training part.
        samples_test: Samples in the test part.
        losses: Training loss over time.
        validations: Metrics of the model received and of the one trained.
        timings: Seconds of each step at the node.
        device: Where it trained, `cpu` or `gpu`.
        notice: Why not on a GPU, if one was wanted.
        moments: Of its columns, if these were asked for.
    """

    node: PartyId
    outcome: str
    attempt: int
    code: str | None = None
    reason: str | None = None
    digest: Digest | None = None
    update_bytes: int = 0
    answered_s: float | None = None
    samples_seen: int = 0
    samples_train: int = 0
    samples_test: int = 0
    losses: tuple[LossPoint, ...] = ()
    validations: tuple[Validation, ...] = ()
    timings: TaskTimings | None = None
    device: str = "cpu"
    notice: GpuNotice | None = None
    moments: tuple[ColumnMoments, ...] | None = None

    @property
    def loss(self) -> float | None:
        """Return the last training loss."""
        return self.losses[-1].loss if self.losses else None

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return the metrics by name, each with the model that it is about: `global_ACCURACY` for instance."""
        return {f"{one.on}_{name}": value for one in self.validations for name, value in one.metrics.items()}


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One round.

    Attributes:
        round: Its number, from 1.
        run: The incarnation of the experiment that it belongs to.
        kind: `train`, `validate` for the validation after the last round, or `measure` for round 0, in which nodes tell moments of columns.
        state: How it stands.
        reason: Why it failed, or why it was the last one before the round limit.
        base: The global model that it started from.
        sent: That model as it went to the nodes.
        encoding: How nodes were to encode their updates.
        model: The global model that it made.
        reserve: Nodes that could be asked in place of others when it was opened.
        aggregator: Name and settings of what made the model.
        agg_optimizer: Settings of what stepped towards it, or None.
        strategy: Name and settings of what closed the round.
        opened_at: Unix time in seconds.
        members: Nodes that took part in the experiment then, asked in this round or not.
        deadline: Unix time after which the round was to be closed or given up.
        closed_at: Unix time in seconds.
        timings: Seconds spent to broadcast, collect, aggregate and save.
        nodes: What each node did; the last attempt of each.
    """

    round: int
    run: RunId
    kind: Kind
    state: RoundState
    reason: str | None
    base: Digest
    sent: PayloadManifest
    encoding: str
    model: Digest | None
    reserve: tuple[PartyId, ...]
    aggregator: Mapping[str, Any]
    agg_optimizer: Mapping[str, Any] | None
    strategy: Mapping[str, Any]
    opened_at: float
    members: int
    deadline: float | None
    closed_at: float | None
    timings: Mapping[str, float | None] = field(default_factory=dict)
    nodes: Mapping[PartyId, NodeRecord] = field(default_factory=dict)

    @property
    def duration_s(self) -> float | None:
        """Return the seconds from opening to closing."""
        return None if self.closed_at is None else self.closed_at - self.opened_at


def _rounds(history: History) -> Group:
    """Return one line for each round, of the last ones if there are many."""
    earlier = len(history) - _SHOWN
    rows = table(
        *("round", "kind", "state", "accepted", "loss", "samples", "seconds"),
        rows=[
            (
                one.round,
                one.kind,
                one.state.value,
                f"{sum(node.outcome == 'accepted' for node in one.nodes.values())} of {len(one.nodes)}",
                None if (loss := mean_loss(one)) is None else f"{loss:.4f}",
                sum(node.samples_seen for node in one.nodes.values()),
                None if one.duration_s is None else f"{one.duration_s:.3f}",
            )
            for one in history[-_SHOWN:]
        ],
    )
    return Group(rows, *([f"and {earlier} earlier"] if earlier > 0 else []))


def mean_loss(record: RoundRecord) -> float | None:
    """Return the mean of the last training losses of a round, weighted by samples; None if there is none."""
    told = [
        (node.loss, node.samples_seen)
        for node in record.nodes.values()
        if node.outcome == "accepted" and node.loss is not None and node.samples_seen
    ]
    total = sum(samples for _, samples in told)
    return sum(loss * samples for loss, samples in told) / total if total else None


class History(Sequence[RoundRecord]):
    """All rounds of an experiment in the order in which they were opened."""

    def __init__(self, rounds: Sequence[RoundRecord], average: str | None = None) -> None:
        """Hold rounds; `average` is that of precision, recall and F1 over classes."""
        self._rounds = tuple(rounds)
        self._average = average

    @overload
    def __getitem__(self, index: int) -> RoundRecord: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> RoundRecord | History:
        return (
            History(self._rounds[index], self._average) if isinstance(index, slice) else self._rounds[index]
        )

    def __len__(self) -> int:
        return len(self._rounds)

    def __repr__(self) -> str:
        return f"History({len(self)} rounds)"

    def _repr_html_(self) -> str:
        return html_of(_rounds(self))

    @property
    def training(self) -> History:
        """Return the training rounds that were closed."""
        closed = [one for one in self if one.kind == "train" and one.state is RoundState.CLOSED]
        return History(closed, self._average)

    def scores(self, metric: str = LOSS, on: On = "train") -> dict[int, Score]:
        """Return one metric over the closed rounds, by the number of the round in which it was measured.

        What is `global` in a round is of the model that the round before it made; a validation after the last round counts as the next.
        """
        return {
            record.round: score
            for record in self
            if record.state is RoundState.CLOSED
            for score in scores_of(record, self._average)
            if (score.metric, score.on) == (metric, on)
        }

    def all_scores(self) -> Iterator[Score]:
        """Yield every metric of every closed round."""
        for record in self:
            if record.state is RoundState.CLOSED:
                yield from scores_of(record, self._average)

    def records(self) -> list[dict[str, Any]]:
        """Return one record for each metric of each closed round: at each node, as the mean of nodes, and pooled.

        Each has `round`, `kind`, `on` (`train`, `global` or `local`), `metric`, `view` (`node`, `mean` or `pooled`), `node`, `value`,
        `bound` (how far a pooled value may be off), `n` (samples), `round_s` and the seconds of each step at the node.
        """
        return [
            row
            for record in self
            if record.state is RoundState.CLOSED
            for score in scores_of(record, self._average)
            for row in _records(record, score)
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each round and node, with all metrics that the node told; ready for a table or for JSON."""
        return [_row(one, node) for one in self for node in one.nodes.values()]

    def plot(self, metric: str = LOSS, on: On = "train") -> Chart:
        """Return a chart of one metric: each node, their mean, and the pooled value; `save` writes it as SVG.

        Raises:
            InvalidSettingsError: If no closed round has it; names those that there are.
        """
        scores = self.scores(metric, on)
        if not scores:
            known = sorted({f"{one['metric']} ({one['on']})" for one in self.records()})
            problem = f"  {metric} ({on}): no round has it; there are {', '.join(known) or 'none'}"
            raise InvalidSettingsError(source="plot", problems=problem)
        nodes = sorted({node for score in scores.values() for node in score.nodes})
        return chart_of(
            f"{metric} ({on}) over the rounds",
            {node: [score.nodes.get(node) for score in scores.values()] for node in nodes},
            {
                "mean": [score.mean for score in scores.values()],
                "pooled": [score.pooled for score in scores.values()],
            },
            list(scores),
        )

    def to_dataframe(self, what: Literal["rows", "records"] = "rows") -> Any:
        """Return `rows()` or `records()` as a pandas DataFrame.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise MissingExtraError(feature="to_dataframe()", package="pandas", extra="dataframe") from error
        return pandas.DataFrame(self.rows() if what == "rows" else self.records())


def _records(record: RoundRecord, score: Score) -> Iterator[dict[str, Any]]:
    head = {"round": record.round, "kind": record.kind, "on": score.on, "metric": score.metric}
    for node, value in score.nodes.items():
        one = record.nodes[node]
        own = next((told.samples for told in one.validations if told.on == score.on), one.samples_seen)
        timings = {} if one.timings is None else one.timings.model_dump(exclude={"received_at"})
        yield {
            **head,
            "view": "node",
            "node": node,
            "value": value,
            "bound": 0.0,
            "n": own,
            "round_s": record.duration_s,
            "answered_s": one.answered_s,
            **timings,
        }
    for view, value, bound in (("mean", score.mean, 0.0), ("pooled", score.pooled, score.bound)):
        yield {
            **head,
            "view": view,
            "node": None,
            "value": value,
            "bound": bound,
            "n": score.samples,
            "round_s": record.duration_s,
        }


def _row(one: RoundRecord, node: NodeRecord) -> dict[str, Any]:
    timings = {} if node.timings is None else node.timings.model_dump(exclude={"received_at"})
    return {
        "round": one.round,
        "kind": one.kind,
        "node": node.node,
        "outcome": node.outcome,
        "reason": node.reason,
        "loss": node.loss,
        "samples_seen": node.samples_seen,
        "samples_train": node.samples_train,
        "samples_test": node.samples_test,
        "answered_s": node.answered_s,
        "round_s": one.duration_s,
        **timings,
        **node.metrics,
    }
