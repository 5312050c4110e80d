"""Write what a worker gets to do a task: files in the folder of its run, and the order that names them."""

from __future__ import annotations

from typing import Final

from common.ids import PartyId
from common.messages import TrainRequest
from common.payload.encodings.choice import Encoding
from node.gpus import GpuOffer
from node.registry import Dataset
from node.replies import share
from node.stock import Stock
from node.task_events import Task
from node.worker.folder import RunFolder
from node.worker.protocol import DatasetSource, RunTask

_UPDATE: Final = "update.safetensors"
_RESIDUAL: Final = "residual.safetensors"


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
    """Put plan, model and residual into the folder, and return the order to do the task with them.

    Raises:
        PayloadMissingError: If the model is not here.
        DiskFullError: If there is no space.
    """
    feeds_back = request.train and Encoding.parse(request.encoding).feeds_back
    plan = folder.keep(f"{request.plan_hash}.py", request.source.encode())
    model = folder.place("model.safetensors", stock.content(task.model))
    residual = stock.residual(task) if feeds_back else None
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
        plan_path=str(plan),
        plan_name=request.plan_name,
        plan_hash=request.plan_hash,
        model_args=request.model_args,
        training_args=request.training_args,
        dataset=DatasetSource(
            dataset_id=dataset.dataset_id,
            data_type=dataset.data_type,
            path=str(dataset.path),
            parameters=dict(dataset.parameters),
        ),
        model_path=str(model),
        model_encoding=request.model.encoding,
        model_decoded_bytes=request.model.decoded_bytes,
        update_path=str(folder.scratch / _UPDATE),
        encoding=request.encoding,
        residual_path=None if residual is None else str(folder.place(_RESIDUAL, residual)),
        residual_to=str(folder.scratch / _RESIDUAL) if feeds_back else None,
    )
