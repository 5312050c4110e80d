"""Read an experiment from a TOML file.

name = "heart"
tags = ["heart"]
rounds = 15
encoding = "int8"            # optional; see docs/how-to/encodings.md

[plan]
file = "heart_plan.py"       # beside this file
class = "HeartPlan"

[training_args]
epochs = 1
loader_args = { batch_size = 4 }
optimizer_args = { lr = 0.001 }

[aggregator]                 # optional; what the plan needs, or FedAverage, if not given
name = "FedAverage"

[agg_optimizer]              # optional; see docs/how-to/aggregators.md
lr = 0.01
modules = [{ name = "AdamModule", beta_2 = 0.999, bias_correction = false }]

[strategy]                   # optional; see docs/how-to/strategies.md
name = "MinimumStrategy"
min_nodes = 3
deadline_s = 600

[strategy.sampling]          # optional; all nodes if not given
name = "RandomSampling"
num_nodes = 5
seed = 1

[early_stopping]             # optional; see docs/how-to/validation.md
metric = "loss"
patience = 5

[retention]                  # optional; keeps everything if not given
updates = 3
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, JsonValue

from common.errors import PlanSourceError
from common.ids import Digest
from common.optimizers import optimizer_of
from common.settings import Settings, load_toml
from common.training_plans.source import plan_hash, plan_source
from researcher.aggregators import aggregator_of
from researcher.experiment import Experiment
from researcher.federation import Federation
from researcher.monitoring import Observer
from researcher.strategies import strategy_of

if TYPE_CHECKING:
    from common.training_plans import TrainingPlan


class PlanFile(Settings):
    """Where the plan is."""

    file: Path
    """Python file, relative to the experiment file."""
    class_name: Annotated[str, Field(alias="class")]


class ExperimentFile(Settings):
    """An experiment as written in a file."""

    tags: Annotated[tuple[str, ...], Field(min_length=1)]
    rounds: Annotated[int, Field(ge=1)]
    plan: PlanFile
    training_args: dict[str, JsonValue]
    name: str | None = None
    nodes: tuple[str, ...] | None = None
    folder: Path | None = None
    model_args: dict[str, JsonValue] = Field(default={})
    encoding: str = "raw"
    retention: dict[str, int] | None = None
    early_stopping: dict[str, JsonValue] | None = None
    aggregator: dict[str, JsonValue] | None = None
    agg_optimizer: dict[str, JsonValue] | None = None
    strategy: dict[str, JsonValue] = Field(default={"name": "DefaultStrategy"})


def load_experiment(
    path: Path, federation: Federation, observers: Sequence[Observer] | None = None
) -> Experiment:
    """Return the experiment that a file describes.

    Raises:
        InvalidSettingsError: If the file is wrong; names every mistake.
        InvalidArgumentsError: If the training arguments are wrong.
        PlanSourceError: If the plan's file raises, or does not define the class.
    """
    file = load_toml(path, ExperimentFile)
    plan = import_plan(path.parent / file.plan.file, file.plan.class_name)
    return Experiment(
        tags=file.tags,
        nodes=file.nodes,
        training_plan_class=plan,
        training_args=file.training_args,
        model_args=file.model_args,
        round_limit=file.rounds,
        aggregator=None if file.aggregator is None else aggregator_of(file.aggregator),
        agg_optimizer=optimizer_of(file.agg_optimizer),
        node_selection_strategy=strategy_of(file.strategy),
        encoding=file.encoding,
        retention=file.retention,
        early_stopping=file.early_stopping,
        experimentation_folder=file.folder,
        federation=federation,
        observers=observers,
        name=file.name or path.stem,
    )


def plan_of(path: Path) -> tuple[str, Digest]:
    """Return the text of the plan of an experiment file, as nodes see it and approve it, and its hash.

    Raises:
        InvalidSettingsError: If the file is wrong; names every mistake.
        PlanSourceError: If the plan's file raises, does not define the class, or cannot be written as text.
    """
    file = load_toml(path, ExperimentFile)
    source = plan_source(import_plan(path.parent / file.plan.file, file.plan.class_name))
    return source, plan_hash(source)


def import_plan(path: Path, class_name: str) -> type[TrainingPlan]:
    """Import a plan from the researcher's own file.

    Raises:
        PlanSourceError: If the file is missing, raises, or does not define the class.
    """
    module_name = f"warren_plan_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PlanSourceError(plan=class_name, reason=f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # the plan's source is looked up through its module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        reason = f"{path} raised {type(error).__name__}: {error}"
        raise PlanSourceError(plan=class_name, reason=reason) from error
    plan: Any = vars(module).get(class_name)
    if not isinstance(plan, type):
        raise PlanSourceError(plan=class_name, reason=f"{path} does not define it")
    return plan
