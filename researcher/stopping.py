"""Decide when an experiment has learned what it will: a pure function of its closed rounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from common.errors import InvalidSettingsError
from common.settings import describe
from common.training_args import TrainingArgs
from researcher.history import RoundRecord
from researcher.round import RoundState
from researcher.scores import HIGHER, LOWER, On, View, scores_of


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop when a metric has not become better for some rounds.

    Attributes:
        metric: Name of a metric, as in `history().records()`.
        on: What it is of: the `global` model that nodes get in each round, the `local` ones that they train, or the loss in
            training, `train`.
        patience: Rounds without a better value after which no further one is run.
        min_delta: By how much a value must be better than the best one so far; must be more than this.
        mode: Whether `min` or `max` is better; known of Warren's own metrics and to be given for one of your own.
        view: Whether it is `pooled` over all samples, or the `mean` of nodes.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    metric: Annotated[str, Field(min_length=1)] = "loss"
    on: On = "global"
    patience: Annotated[int, Field(ge=1)] = 5
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    mode: Literal["min", "max"] | None = None
    view: View = "pooled"

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None, args: TrainingArgs) -> Self | None:
        """Check what a person wrote, against how nodes train.

        Raises:
            InvalidSettingsError: If a key is unknown or a value wrong, or nodes will not report the metric; names all of it.
        """
        if given is None:
            return None
        try:
            values = dict(given) if isinstance(given, Mapping) else asdict(given)
            rule = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise InvalidSettingsError(source="early_stopping", problems=describe(error)) from error
        problems = []
        if rule.mode is None and rule.metric not in HIGHER | LOWER:
            problems.append(f"  mode: say whether min or max of {rule.metric!r} is better")
        asked = {"train": True, "global": args.test_on_global_updates, "local": args.test_on_local_updates}
        if not asked[rule.on]:
            problems.append(
                f"  on: nodes do not validate; set test_on_{rule.on}_updates in the training_args"
            )
        if problems:
            raise InvalidSettingsError(source="early_stopping", problems="\n".join(problems))
        return rule

    @property
    def larger(self) -> bool:
        """Tell whether more is better."""
        return self.mode == "max" or (self.mode is None and self.metric in HIGHER)

    def watch(self, rounds: Iterable[RoundRecord], average: str | None = None) -> Watch:
        """Return where these rounds lead to."""
        state = Watch(self, average)
        for record in rounds:
            state = state.after(record)
        return state


@dataclass(frozen=True, slots=True)
class Watch:
    """How an experiment stands with its early stopping.

    Attributes:
        rule: What is watched.
        average: Of precision, recall and F1 over classes.
        best: The best value so far.
        best_round: The round that made the model which has it; 0 is the first model.
        waited: Rounds since then.
    """

    rule: EarlyStopping
    average: str | None = None
    best: float | None = None
    best_round: int | None = None
    waited: int = 0

    def after(self, record: RoundRecord) -> Watch:
        """Return how it stands after another round; only training rounds that were closed count."""
        if record.kind != "train" or record.state is not RoundState.CLOSED:
            return self
        rule = self.rule
        value = next(
            (
                one.view(rule.view)
                for one in scores_of(record, self.average)
                if one.metric == rule.metric and one.on == rule.on
            ),
            None,
        )
        if value is None or not math.isfinite(value) or not self._better(value):
            return replace(self, waited=self.waited + 1)
        made = record.round - 1 if rule.on == "global" else record.round
        return replace(self, best=value, best_round=made, waited=0)

    @property
    def reason(self) -> str | None:
        """Return why to stop, or None to go on."""
        rule = self.rule
        if self.waited < rule.patience:
            return None
        what = f"stopped early: the {rule.view} {rule.metric} ({rule.on})"
        if self.best is None:
            return f"{what} was not known in {self.waited} rounds"
        by = f" by more than {rule.min_delta:g}" if rule.min_delta else ""
        return (
            f"{what} has not become better{by} for {self.waited} rounds; "
            f"the best was {self.best:.6g}, with the model of round {self.best_round}"
        )

    def _better(self, value: float) -> bool:
        if self.best is None:
            return True
        gain = value - self.best if self.rule.larger else self.best - value
        return gain > self.rule.min_delta
