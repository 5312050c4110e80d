"""Let a scripted node train for real: a worker session in this process, on a table of its own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from common.ids import DatasetId, derived_uuid
from common.messages import Assignment, DatasetDescription, TrainRequest
from common.payload.store import PayloadStore
from node.worker.protocol import DatasetSource
from node.worker.session import Session
from tests.support.fake_node import FakeNode, Trial, Update, dataset
from tests.support.tasks import content_of, order

_ONE_AT_A_TIME = threading.Lock()
"""Random generators are global."""


def write_columns(path: Path, **columns: object) -> Path:
    """Write a table of columns, digit by digit."""
    values = [np.asarray(column).tolist() for column in columns.values()]
    lines = [",".join(columns), *(",".join(map(repr, row)) for row in zip(*values, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def start_working(
    trial: Trial,
    node: str,
    path: Path,
    description: DatasetDescription | None = None,
    data_type: str = "tabular",
) -> FakeNode:
    """Start a node that trains on a table, or on another data set; it carries the tag `heart` if it is not described."""
    session, folder = Session(), trial.folder / node
    work = folder.parent / f"{node}-work"
    work.mkdir(parents=True)

    def script(request: TrainRequest, assignment: Assignment) -> Update:
        plan = work / f"{request.plan_hash}.py"
        plan.write_text(request.source or "")
        task = order(
            task_id=assignment.task_id,
            experiment_id=request.experiment_id,
            run_id=request.run_id,
            round=request.round,
            node_id=assignment.node,
            seed=request.seed,
            train=request.train,
            plan_path=str(plan),
            plan_name=request.plan_name,
            plan_hash=request.plan_hash,
            model_args=request.model_args,
            training_args=request.training_args,
            moments=request.moments,
            dataset=DatasetSource(
                dataset_id=DatasetId(derived_uuid("dataset", node, "heart")),
                data_type=data_type,
                path=str(path),
                parameters={},
            ),
            model=PayloadStore(folder).path(request.model.sha256),
            update_path=str(work / "update.safetensors"),
            encoding=request.encoding,
            state_path=str(work / "state.safetensors"),
        )
        with _ONE_AT_A_TIME:
            made = session.run(task, lambda progress: None)
        done = made.done
        return Update(
            raw=content_of(made.update) if request.train else None,
            samples_seen=done.samples_seen,
            samples_train=done.samples_train,
            loss=done.losses[-1].loss if done.losses else None,
            moments=done.moments,
        )

    if description is None:
        description = dataset(node, samples=len(path.read_text().splitlines()) - 1)
    return trial.start(node, script, datasets=(description,))
