"""What the field's algorithms reach on the four hospitals of the heart-disease study, next to what was published.

FLamby's recipe (du Terrail et al., NeurIPS 2022, Fed-Heart-Disease): batches of 4, 100 updates in each of 15 rounds, plain gradient
descent at the hospitals. What is compared is the accuracy on the held-back patients, each hospital counted once, over five seeds.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from common.optimizers import AdaGradModule, AdamModule, EWMAModule, Optimizer, YogiModule
from common.training_plans.source import plan_source
from deploy.demo.baselines import Linear, Site, evaluate, pooled_optimum
from deploy.demo.hospitals import NAMES, hospitals, write_csv
from researcher import Experiment, FedAverage, Scaffold
from researcher.aggregators.base import Aggregator
from researcher.federation import Federation as Place
from tests.benchmarks.heart_plan import HeartBenchmark
from tests.support.world import TAG, World

ROUNDS: Final = 15
SEEDS: Final = (42, 43, 44, 45, 46)
_TAU: Final = 1e-8


@dataclass(frozen=True)
class Recipe:
    """One algorithm with the settings for which its figure was published."""

    published: float
    lr: float
    aggregator: Aggregator = field(default_factory=FedAverage)
    agg_optimizer: Optimizer | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


RECIPES: Final = {
    "FedAvg": Recipe(0.6850, 0.001),
    "FedProx": Recipe(0.6850, 0.001, extra={"fedprox_mu": 1.0}),
    "Scaffold": Recipe(0.6840, 0.001, aggregator=Scaffold()),
    "FedAdam": Recipe(
        0.7255,
        0.01,
        agg_optimizer=Optimizer(
            lr=0.01, modules=[AdamModule(beta_1=0.9, beta_2=0.999, eps=_TAU, bias_correction=False)]
        ),
    ),
    "FedYogi": Recipe(
        0.7314,
        0.003162,
        agg_optimizer=Optimizer(
            lr=0.01, modules=[YogiModule(beta_1=0.9, beta_2=0.999, eps=_TAU, bias_correction=False)]
        ),
    ),
    "FedAdagrad": Recipe(
        0.7314,
        0.003162,
        agg_optimizer=Optimizer(lr=0.316228, modules=[EWMAModule(beta=0.9), AdaGradModule(eps=_TAU)]),
    ),
}
POOLED: Final = 0.7353


def run(*, quick: bool) -> tuple[dict[str, Any], Table]:
    """Run every algorithm with every seed, or with two."""
    sites = {name: Site.of(hospital) for name, hospital in hospitals().items()}
    seeds = SEEDS[:2] if quick else SEEDS
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder:
        world = World(
            Path(folder),
            list(NAMES),
            table=_csv(Path(folder)),
            plan=plan_source(HeartBenchmark),
            plan_name="HeartBenchmark",
        )
        with world, world.start().enter() as place:
            for name, recipe in RECIPES.items():
                scores = [evaluate(_trained(place, recipe, seed), sites) for seed in seeds]
                found[name] = {
                    "published": recipe.published,
                    "accuracy_mean": [one.accuracy_mean for one in scores],
                    "auc_pooled": [one.auc_pooled for one in scores],
                    "train_log_loss": [one.train_log_loss for one in scores],
                }
    optimum = evaluate(pooled_optimum(sites), sites)
    found["pooled optimum"] = {
        "published": POOLED,
        "accuracy_mean": [optimum.accuracy_mean],
        "auc_pooled": [optimum.auc_pooled],
        "train_log_loss": [optimum.train_log_loss],
    }
    return found, _table(found, len(seeds))


def _trained(place: Place, recipe: Recipe, seed: int) -> Linear:
    experiment = Experiment(
        tags=[TAG],
        training_plan_class=HeartBenchmark,
        model_args={"seed": seed},
        training_args={
            "num_updates": 100,
            "optimizer_args": {"lr": recipe.lr},
            "random_seed": seed,
            **recipe.extra,
        },
        round_limit=ROUNDS,
        aggregator=recipe.aggregator,
        agg_optimizer=recipe.agg_optimizer,
        federation=place,
        observers=(),
    )
    try:
        experiment.run()
        parameters = experiment.training_plan().get_model_params()
    finally:
        experiment.close()
    weights = np.asarray(parameters["weight"], dtype=np.float64).reshape(-1)
    return Linear(weights=weights, intercept=float(parameters["bias"]))


def _csv(folder: Path) -> Any:
    """Return what gives the table of a hospital as text."""

    def text(name: str) -> str:
        path = folder / f"{name}-source.csv"
        write_csv(hospitals()[name], path)
        return path.read_text(encoding="utf-8")

    return text


def _table(found: Mapping[str, Any], seeds: int) -> Table:
    table = Table(
        *(
            "algorithm",
            "mean accuracy",
            "over seeds, lowest to highest",
            "published",
            "AUC, all patients",
            "train log-loss",
        ),
        title=f"Four hospitals, heart disease, {ROUNDS} rounds, {seeds} seeds",
    )
    for name, one in found.items():
        accuracy = one["accuracy_mean"]
        table.add_row(
            name,
            f"{statistics.mean(accuracy):.4f}",
            f"{min(accuracy):.4f} to {max(accuracy):.4f}",
            f"{one['published']:.4f}",
            f"{statistics.mean(one['auc_pooled']):.4f}",
            f"{statistics.mean(one['train_log_loss']):.4f}",
        )
    return table
