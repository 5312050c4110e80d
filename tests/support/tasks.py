"""Make tasks for workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.ids import DatasetId, ExperimentId, PartyId, RunId, TaskId, new_uuid
from common.payload.header import Content
from common.training_args import TrainingArgs
from common.training_plans import TrainingPlan
from common.training_plans.source import load_plan, plan_hash, plan_source
from node.worker.protocol import DatasetSource, Done, Order, RunSpec, TaskSpec
from tests.support.plans import LogisticPlan, write_table

EXPERIMENT = ExperimentId("01900000-0000-7000-8000-000000000001")
RUN = RunId("01900000-0000-7000-8000-000000000002")
DATASET = DatasetId("01900000-0000-7000-8000-000000000003")


class Desk:
    """The folder of a worker, with a plan, a model and a table in it."""

    def __init__(
        self, folder: Path, plan: type[TrainingPlan] | str = LogisticPlan, *, rows: int = 40
    ) -> None:
        self.folder = folder
        self.source = plan if isinstance(plan, str) else plan_source(plan)
        self.name = "Plan" if isinstance(plan, str) else plan.__name__
        self.plan = folder / f"{plan_hash(self.source)[:8]}.py"
        self.plan.write_text(self.source)
        self.model = folder / "model.safetensors"
        self.update = folder / "update.safetensors"
        self.state = folder / "state.safetensors"
        self.table = write_table(folder / "table.csv", rows=rows)

    def write_model(self, **model_args: Any) -> None:
        """Write the first global model."""
        made = load_plan(self.source, self.name, plan_hash(self.source))()
        made.prepare(model_args=model_args, training_args=TrainingArgs(epochs=1, random_seed=3))
        made.export_model(self.model)

    def task(
        self,
        *,
        args: dict[str, Any] | None = None,
        model: Content | None = None,
        state: Content | None = None,
        **changed: Any,
    ) -> Order:
        """Return a task of five updates, or one with other training arguments or fields; the model is that of the folder if none is given."""
        fields: dict[str, Any] = {
            "task_id": TaskId(new_uuid()),
            "experiment_id": EXPERIMENT,
            "run_id": RUN,
            "round": 0,
            "node_id": PartyId("north"),
            "seed": 11,
            "plan_path": str(self.plan),
            "plan_name": self.name,
            "plan_hash": plan_hash(self.source),
            "model_args": {},
            "training_args": TrainingArgs.of({"num_updates": 5, "random_seed": 3} | (args or {})),
            "dataset": DatasetSource(
                dataset_id=DATASET, data_type="tabular", path=str(self.table), parameters={}
            ),
            "update_path": str(self.update),
            "state_path": str(self.state),
        }
        return order(self.model if model is None else model, state, **(fields | changed))


def order(model: Content, state: Content | None = None, **fields: Any) -> Order:
    """Return an order, each field put where it belongs."""
    own = {name: value for name, value in fields.items() if name in TaskSpec.model_fields}
    shared = {name: value for name, value in fields.items() if name not in own}
    return Order(RunSpec(**shared), TaskSpec(**own), model, state)


def done(task_id: TaskId, **fields: Any) -> Done:
    """Return the report of a worker that trained on one sample for a second, or with other fields."""
    usual: dict[str, Any] = {
        "samples_seen": 1,
        "samples_train": 1,
        "samples_test": 0,
        "losses": (),
        "validations": (),
        "loaded_s": 0.0,
        "trained_s": 1.0,
        "validated_s": 0.0,
        "saved_s": 0.0,
    }
    return Done(task_id=task_id, **(usual | fields))


def content_of(content: Content | None) -> bytes:
    """Return what a worker made, from memory or a file."""
    assert content is not None
    return content if isinstance(content, bytes) else content.read_bytes()
