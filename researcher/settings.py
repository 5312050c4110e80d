"""Hold what a researcher decided about an experiment."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from common.errors import InvalidSettingsError
from common.ids import PartyId, party_id
from common.optimizers import Optimizer, optimizer_config, optimizer_of
from common.payload.encodings.choice import Encoding
from common.training_args import TrainingArgs
from researcher.aggregators import (
    Aggregator,
    FedAverage,
    StatefulAggregator,
    aggregator_config,
    aggregator_of,
)
from researcher.retention import Retention
from researcher.stopping import EarlyStopping
from researcher.strategies import AnyStrategy, AsyncStrategy, DefaultStrategy, strategy_config, strategy_of


@dataclass(frozen=True, slots=True)
class ExperimentSettings:
    """What can be changed between rounds.

    Attributes:
        tags: What the data sets must carry.
        nodes: Whom to ask; none asks every node.
        training_args: How nodes train.
        model_args: Handed to the plan's `init_model`.
        round_limit: Number of rounds after which the experiment is finished; none for no end.
        aggregator: Makes the global model.
        agg_optimizer: Steps the global model towards what the aggregator makes; none takes that as it is.
        strategy: Chooses nodes and says when a round closes.
        encoding: How updates, and global models as far as they can be, are written on the wire.
        retention: Of how many rounds files are kept.
        early_stopping: When no further round is worth it; none runs all.
    """

    tags: tuple[str, ...]
    nodes: tuple[PartyId, ...] | None
    training_args: TrainingArgs
    model_args: Mapping[str, Any]
    round_limit: int | None
    aggregator: Aggregator
    agg_optimizer: Optimizer | None
    strategy: AnyStrategy
    encoding: Encoding
    retention: Retention
    early_stopping: EarlyStopping | None = None

    @classmethod
    def of(
        cls,
        *,
        tags: Iterable[str] | str | None,
        nodes: Iterable[str] | str | None,
        training_args: Mapping[str, Any] | TrainingArgs | None,
        model_args: Mapping[str, Any] | None,
        round_limit: int | None,
        aggregator: Aggregator | None,
        agg_optimizer: Optimizer | None,
        strategy: AnyStrategy | None,
        encoding: Encoding | str,
        retention: Retention | Mapping[str, Any] | None,
        early_stopping: EarlyStopping | Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Self:
        """Return settings as a person wrote them; a random seed that they lack is `seed`, or drawn.

        Raises:
            InvalidSettingsError: If something is missing or wrong; names all of it.
            InvalidArgumentsError: If the training arguments are wrong; names every mistake.
            InvalidPartyIdError: If a node is named that cannot exist.
        """
        problems = []
        wanted = texts(tags)
        if not wanted:
            problems.append("  tags: give at least one")
        if training_args is None:
            problems.append(
                "  training_args: missing; epochs or num_updates, and batch size and learning rate as needed"
            )
        if round_limit is not None and (not isinstance(round_limit, int) or round_limit < 1):
            problems.append("  round_limit: should be a whole number of at least 1")
        try:
            json.dumps(dict(model_args or {}))
        except (TypeError, ValueError) as error:
            problems.append(f"  model_args: {error}")
        try:
            chosen = Encoding.parse(str(encoding))
        except InvalidSettingsError as error:
            chosen = Encoding()
            problems.append(f"  encoding: {str(error.facts['problems']).strip()}")
        given: object = agg_optimizer
        if given is not None and not isinstance(given, Optimizer):
            problems.append("  agg_optimizer: should be an Optimizer of common.optimizers")
        if isinstance(aggregator, StatefulAggregator) and isinstance(strategy, AsyncStrategy):
            name = type(aggregator).__name__
            problems.append(f"  aggregator: {name} needs rounds, and an asynchronous strategy has none")
        if problems:
            raise InvalidSettingsError(source="the experiment", problems="\n".join(problems))
        arguments = TrainingArgs.of(
            training_args if isinstance(training_args, TrainingArgs) else dict(training_args or {})
        )
        if arguments.random_seed is None:
            drawn = secrets.randbits(48) if seed is None else seed
            arguments = arguments.model_copy(update={"random_seed": drawn})
        return cls(
            tags=wanted,
            nodes=None if nodes is None else tuple(party_id(node) for node in texts(nodes)),
            training_args=arguments,
            model_args=dict(model_args or {}),
            round_limit=round_limit,
            aggregator=aggregator or FedAverage(),
            agg_optimizer=agg_optimizer,
            strategy=strategy or DefaultStrategy(),
            encoding=chosen,
            retention=Retention.of(retention),
            early_stopping=EarlyStopping.of(early_stopping, arguments),
        )

    def changed(self, **wanted: Any) -> Self:
        """Return these settings with some replaced by what a person wrote; raises as `of`."""
        current = {field.name: getattr(self, field.name) for field in fields(self)}
        return self.of(**(current | wanted), seed=self.training_args.random_seed)

    def config(self) -> dict[str, Any]:
        """Return the settings as plain values for the ledger."""
        return {
            "tags": self.tags,
            "nodes": self.nodes,
            "training_args": self.training_args.model_dump(mode="json"),
            "model_args": dict(self.model_args),
            "round_limit": self.round_limit,
            "aggregator": aggregator_config(self.aggregator),
            "agg_optimizer": optimizer_config(self.agg_optimizer),
            "strategy": strategy_config(self.strategy),
            "encoding": str(self.encoding),
            "retention": asdict(self.retention),
            "early_stopping": None if self.early_stopping is None else asdict(self.early_stopping),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, aggregator: Aggregator | None, strategy: AnyStrategy | None
    ) -> Self:
        """Return the settings that a ledger holds; an aggregator or strategy of one's own must be given again.

        Raises:
            InvalidSettingsError: If the aggregator or strategy is neither known here nor given.
        """
        return cls.of(
            tags=config["tags"],
            nodes=config["nodes"],
            training_args=config["training_args"],
            model_args=config["model_args"],
            round_limit=config["round_limit"],
            aggregator=aggregator or aggregator_of(config["aggregator"]),
            agg_optimizer=optimizer_of(config["agg_optimizer"]),
            strategy=strategy or strategy_of(config["strategy"]),
            encoding=config["encoding"],
            retention=config["retention"],
            early_stopping=config.get("early_stopping"),
        )


def texts(value: Iterable[str] | str | None) -> tuple[str, ...]:
    """Return one text or several as a tuple without duplicates."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))
