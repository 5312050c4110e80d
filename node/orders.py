"""Write what a worker gets to do a task: files in the folder of its run, and the order that names them."""

from __future__ import annotations

from typing import Final

from common.ids import PartyId
from common.messages import TrainRequest
from node.gpus import GpuOffer
from node.registry import Dataset
from node.replies import share
from node.stock import Stock
from node.task_events import Task
from node.worker.folder import RunFolder
from node.worker.protocol import DatasetSource, RunTask

_UPDATE: Final = "update.safetensors"
_STATE: Final = "state.safetensors"


def order(
    task: Task,
    request: TrainRequest,
    dataset: Dataset,
    *,
    node: PartyId,
    folder: RunFolder,
    stock: Stock,
    gpu: GpuOffer,
) -> RunTask:
    """Put plan, model and state into the folder, and return the order to do the task with them.

    Raises:
        PayloadMissingError: If the model is not here.
        DiskFullError: If there is no space.
    """
    plan = folder.keep(f"{request.plan_hash}.py", request.source.encode())
    model = folder.place("model.safetensors", stock.content(task.model))
    base = share(request, node).state_of
    state = stock.state(task, base)
    return RunTask(
        task_id=task.task_id,
        experiment_id=task.experiment_id,
        run_id=task.run_id,
        round=task.round,
        node_id=node,
        seed=request.seed,
        gpu=gpu,
        updates_done=share(request, node).updates_done,
        train=request.train,
        moments=request.moments,
        plan_path=str(plan),
        plan_name=request.plan_name,
        plan_hash=request.plan_hash,
        model_args=request.model_args,
        training_args=request.training_args,
        dataset=_source(dataset),
        test_dataset=None if dataset.test is None else _source(dataset.test),
        joined_dataset=None if dataset.joined is None else _source(dataset.joined),
        model_path=str(model),
        model_encoding=request.model.encoding,
        model_decoded_bytes=request.model.decoded_bytes,
        update_path=str(folder.scratch / _UPDATE),
        encoding=request.encoding,
        correction=request.correction,
        state_of=base,
        state_path=None if state is None else str(folder.place(_STATE, state)),
        state_to=str(folder.scratch / _STATE),
    )


def _source(dataset: Dataset) -> DatasetSource:
    return DatasetSource(
        dataset_id=dataset.dataset_id,
        data_type=dataset.data_type,
        path=str(dataset.path),
        parameters=dict(dataset.parameters),
    )
