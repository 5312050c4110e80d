"""Write what a worker gets to do a task: the order, and files in the folder of its run."""

from __future__ import annotations

from typing import Final

from common.ids import PartyId
from common.messages import TrainRequest
from node.dataset import Dataset
from node.gpus import GpuOffer
from node.replies import share
from node.stock import Stock
from node.task_events import Task
from node.worker.folder import RunFolder
from node.worker.protocol import DatasetSource, Order, RunSpec, TaskSpec

_MODEL: Final = "model.safetensors"
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
) -> Order:
    """Put the plan and what is large into the folder, and return the order to do the task.

    Raises:
        PayloadMissingError: If the model is not here.
        DiskFullError: If there is no space.
    """
    assigned = share(request, node)
    state = stock.state(task, assigned.state_of)
    scratch = str(folder.scratch)
    run = RunSpec(
        experiment_id=task.experiment_id,
        run_id=task.run_id,
        node_id=node,
        gpu=gpu,
        plan_path=str(folder.keep(f"{request.plan_hash}.py", request.source.encode())),
        plan_name=request.plan_name,
        plan_hash=request.plan_hash,
        model_args=request.model_args,
        training_args=request.training_args,
        dataset=_source(dataset),
        test_dataset=None if dataset.test is None else _source(dataset.test),
        joined_dataset=None if dataset.joined is None else _source(dataset.joined),
        model_encoding=request.model.encoding,
        encoding=request.encoding,
        update_path=f"{scratch}/{_UPDATE}",
        state_path=f"{scratch}/{_STATE}",
        moments=request.moments,
        correction=request.correction,
    )
    own = TaskSpec(
        task_id=task.task_id,
        round=task.round,
        seed=request.seed,
        updates_done=assigned.updates_done,
        train=request.train,
        model_decoded_bytes=request.model.decoded_bytes,
        state_of=assigned.state_of,
    )
    model = folder.handed(_MODEL, stock.content(task.model))
    return Order(run, own, model, None if state is None else folder.handed(_STATE, state))


def _source(dataset: Dataset) -> DatasetSource:
    return DatasetSource(
        dataset_id=dataset.dataset_id,
        data_type=dataset.data_type,
        path=str(dataset.path),
        parameters=dict(dataset.parameters),
    )
