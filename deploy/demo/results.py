"""Put what came of the demo into one record, and that into the document `results.json`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from deploy.demo.baselines import (
    Linear,
    Scores,
    Site,
    Vector,
    auc,
    evaluate,
    local_model,
    log_loss,
    majority_accuracy,
    pooled_optimum,
)
from deploy.demo.hospitals import NAMES, hospitals
from deploy.demo.stages import BrokerKind

_PACKAGES: Final = ("warren-fl", "torch", "numpy", "pika", "cryptography")


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What is kept of one round.

    Attributes:
        duration_s: From its opening to its closing.
        losses: Mean training loss of each node during its steps.
        samples: Training patients of each node.
    """

    duration_s: float
    losses: Mapping[str, float | None]
    samples: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Clockings:
    """Seconds since the command was launched."""

    ready_s: float
    """Broker, agents and researcher are connected."""
    first_round_opened_s: float
    first_round_closed_s: float
    total_s: float
    """The last round is closed, and its model validated."""


@dataclass(frozen=True)
class Results:
    """What came of one run of the demo.

    Attributes:
        broker: What carried the messages.
        rounds: Training rounds, the last validation after them.
        validated: Accuracy of the final model as each node found it.
        model: The model that was trained.
        plan_hash: What each node approved.
        clockings: When what happened.
    """

    broker: BrokerKind
    rounds: Sequence[RoundFacts]
    validated: Mapping[str, float | None]
    model: Linear
    plan_hash: str
    clockings: Clockings

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Return the data of all hospitals, each standardised by itself."""
        return {name: Site.of(hospital) for name, hospital in hospitals().items()}

    @cached_property
    def federated(self) -> Scores:
        """Return how good the trained model is."""
        return evaluate(self.model, self.sites)

    @cached_property
    def optimum(self) -> Scores:
        """Return how good the best model is that anybody could train with all data in one place."""
        return evaluate(pooled_optimum(self.sites), self.sites)

    @cached_property
    def alone(self) -> dict[str, Scores]:
        """Return how good each hospital's own model is, at all hospitals."""
        return {name: evaluate(model, self.sites) for name, model in self._local_models.items()}

    @cached_property
    def alone_accuracy_mean(self) -> float:
        """Return the mean accuracy of the hospitals' own models, each at home."""
        return float(np.mean([self.alone[name].sites[name].accuracy for name in self.sites]))

    @cached_property
    def alone_auc_pooled(self) -> float | None:
        """Return the AUC over all test patients when each is scored by the model of the own hospital."""
        return auc(*self._scored_at_home)

    @cached_property
    def alone_test_log_loss(self) -> float:
        """Return the mean log-loss over all test patients when each is scored by the model of the own hospital."""
        return log_loss(*self._scored_at_home)

    @cached_property
    def majority(self) -> dict[str, float]:
        """Return the accuracy of always saying what is commoner at the hospital."""
        return {name: majority_accuracy(site) for name, site in self.sites.items()}

    @property
    def majority_mean(self) -> float:
        """Return the mean of `majority`."""
        return float(np.mean(list(self.majority.values())))

    @property
    def losses(self) -> dict[str, list[float | None]]:
        """Return the training loss of each node over the rounds."""
        return {name: [one.losses.get(name) for one in self.rounds] for name in self.sites}

    @property
    def mean_losses(self) -> list[float | None]:
        """Return the mean training loss over the rounds, weighted by training patients."""
        return [_weighted(one.losses, one.samples) for one in self.rounds]

    @cached_property
    def _local_models(self) -> dict[str, Linear]:
        return {name: local_model(site) for name, site in self.sites.items()}

    @cached_property
    def _scored_at_home(self) -> tuple[Vector, Vector]:
        scores = [self._local_models[name].logits(site.test) for name, site in self.sites.items()]
        return np.concatenate(scores), np.concatenate([site.test_labels for site in self.sites.values()])

    def document(self) -> dict[str, Any]:
        """Return the results as plain values; keys ending in `_s` are seconds, losses are in nats."""
        return {
            "broker": self.broker,
            "rounds": len(self.rounds),
            "round_s": [one.duration_s for one in self.rounds],
            "sites": {name: self._site(name) for name in self.sites},
            "global": _overall(self.federated),
            "pooled_optimum": {**_overall(self.optimum), "sites": _by_site(self.optimum)},
            "local_only": {
                name: {**asdict(scores.sites[name]), "auc_at_all_hospitals": scores.auc_pooled}
                for name, scores in self.alone.items()
            },
            "local_only_accuracy_mean": self.alone_accuracy_mean,
            "majority": {"accuracy_mean": self.majority_mean, "sites": self.majority},
            "loss": {"sites": self.losses, "mean": self.mean_losses},
            "clockings": asdict(self.clockings),
            "plan_hash": self.plan_hash,
            "versions": versions(),
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        }

    def _site(self, name: str) -> dict[str, Any]:
        site = self.sites[name]
        return {
            "hospital": NAMES[name],
            "n_train": len(site.train),
            "n_test": len(site.test),
            **asdict(self.federated.sites[name]),
            "accuracy_found_by_node": self.validated.get(name),
        }


def versions() -> dict[str, str]:
    """Return what ran."""
    return {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}


def _overall(scores: Scores) -> dict[str, float]:
    return {
        "accuracy_mean": scores.accuracy_mean,
        "auc_pooled": scores.auc_pooled,
        "train_log_loss": scores.train_log_loss,
        "test_log_loss": scores.test_log_loss,
    }


def _by_site(scores: Scores) -> dict[str, Any]:
    return {name: asdict(one) for name, one in scores.sites.items()}


def _weighted(values: Mapping[str, float | None], weights: Mapping[str, int]) -> float | None:
    pairs: Iterable[tuple[float, int]] = [
        (value, weights[name]) for name, value in values.items() if value is not None and weights[name]
    ]
    total = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / total if total else None
