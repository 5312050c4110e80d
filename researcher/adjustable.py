"""Offer the settings of an experiment one by one, by Fed-BioMed's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.ids import Digest, ExperimentId, PartyId
from common.optimizers import Optimizer
from common.training_args import TrainingArgs
from researcher.aggregators import Aggregator
from researcher.dossier import Dossier
from researcher.retention import Retention
from researcher.stopping import EarlyStopping
from researcher.strategies import AnyStrategy


class Adjustable:
    """An experiment's settings: getters are methods, and what is set counts from the next run on."""

    _dossier: Dossier

    @property
    def id(self) -> ExperimentId:
        """Return the id of the experiment."""
        return self._dossier.row.id

    @property
    def name(self) -> str:
        """Return what people call it."""
        return self._dossier.row.name

    @property
    def folder(self) -> Path | None:
        """Return its directory, or None before there is one."""
        return self._dossier.folder

    @property
    def plan_hash(self) -> Digest:
        """Return the hash that nodes approve."""
        return self._dossier.row.plan_hash

    def tags(self) -> tuple[str, ...]:
        """Return the tags that data sets must carry."""
        return self._dossier.settings.tags

    def nodes(self) -> tuple[PartyId, ...] | None:
        """Return the nodes that were named, or None for every node."""
        return self._dossier.settings.nodes

    def training_args(self) -> dict[str, Any]:
        """Return the training arguments with defaults filled in."""
        return self._dossier.settings.training_args.model_dump()

    def model_args(self) -> dict[str, Any]:
        """Return the arguments of the model."""
        return dict(self._dossier.settings.model_args)

    def round_limit(self) -> int | None:
        """Return the number of rounds after which the experiment is finished."""
        return self._dossier.settings.round_limit

    def aggregator(self) -> Aggregator:
        """Return what makes the global model."""
        return self._dossier.settings.aggregator

    def agg_optimizer(self) -> Optimizer | None:
        """Return what steps the global model, or None if the aggregator's model is taken as it is."""
        return self._dossier.settings.agg_optimizer

    def strategy(self) -> AnyStrategy:
        """Return what says when a round closes."""
        return self._dossier.settings.strategy

    def encoding(self) -> str:
        """Return how models and updates are written on the wire."""
        return str(self._dossier.settings.encoding)

    def retention(self) -> Retention:
        """Return of how many rounds files are kept."""
        return self._dossier.settings.retention

    def early_stopping(self) -> EarlyStopping | None:
        """Return when to stop before the round limit, or None."""
        return self._dossier.settings.early_stopping

    def set_tags(self, tags: Iterable[str] | str) -> None:
        """Look for other data sets from the next run on."""
        self._change(tags=tags)
        self._dossier.choose(None)

    def set_nodes(self, nodes: Iterable[str] | str | None) -> None:
        """Train at other nodes from the next run on."""
        self._change(nodes=nodes)
        self._dossier.choose(None)

    def set_training_args(self, training_args: Mapping[str, Any] | TrainingArgs) -> None:
        """Train otherwise from the next run on."""
        self._change(training_args=training_args)

    def set_model_args(self, model_args: Mapping[str, Any]) -> None:
        """Change the arguments of the model, keeping its weights.

        Raises:
            ModelMismatchError: If the weights do not fit the model that results.
        """
        self._change(model_args=model_args)

    def set_round_limit(self, round_limit: int | None) -> None:
        """Finish after another number of rounds."""
        self._change(round_limit=round_limit)

    def set_aggregator(self, aggregator: Aggregator) -> None:
        """Make the global model otherwise from the next run on."""
        self._change(aggregator=aggregator)

    def set_agg_optimizer(self, agg_optimizer: Optimizer | None) -> None:
        """Step the global model otherwise from the next run on; with other modules it begins without memory."""
        self._change(agg_optimizer=agg_optimizer)

    def set_strategy(self, node_selection_strategy: AnyStrategy) -> None:
        """Close rounds otherwise from the next run on."""
        self._change(strategy=node_selection_strategy)

    def set_encoding(self, encoding: str) -> None:
        """Write models and updates otherwise on the wire, from the next round that is opened.

        Raises:
            InvalidSettingsError: If there is no such encoding; names those that there are.
        """
        self._change(encoding=encoding)

    def set_retention(self, retention: Retention | Mapping[str, int | None] | None) -> None:
        """Keep the files of more or fewer rounds, from the end of the next round on.

        Raises:
            InvalidSettingsError: If a key is unknown or a number is out of range.
        """
        self._change(retention=retention)

    def set_early_stopping(self, early_stopping: EarlyStopping | Mapping[str, Any] | None) -> None:
        """Stop otherwise before the round limit, or not at all; all rounds since the first count.

        Raises:
            InvalidSettingsError: If a key is unknown or a value wrong, or nodes will not report the metric.
        """
        self._change(early_stopping=early_stopping)

    def _change(self, **wanted: Any) -> None:
        """Replace settings after checking all of them together."""
        settings = self._dossier.settings.changed(**wanted)
        if "model_args" in wanted:
            self._dossier.check_model(settings)
        self._dossier.change(settings)
