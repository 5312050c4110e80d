"""Run rounds of an algorithm through workers and aggregators in this process: only messages and agents are missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.numpy import load_file

from common.data import DataManager
from common.datasets import TabularDataset
from common.ids import PartyId, TaskId, derived_uuid
from common.messages import PayloadManifest
from common.payload.encodings.choice import Encoding
from common.payload.header import Content
from common.training_args import TrainingArgs
from common.training_plans import TorchTrainingPlan
from common.training_plans.source import plan_hash, plan_source
from node.worker.protocol import DatasetSource, Done, Made, Order
from node.worker.session import Session
from researcher.aggregators import Aggregator, Contribution, Recall, StatefulAggregator
from researcher.parcels import Parcels
from tests.support.holdings import Files
from tests.support.plans import loaded
from tests.support.tasks import content_of, order

BATCH = 4
LR = 0.05


class LeastSquares(TorchTrainingPlan):
    """Fit a line: half the mean squared error, plain SGD."""

    def init_model(self, model_args):
        model = torch.nn.Linear(2, 1)
        torch.nn.init.zeros_(model.weight)
        torch.nn.init.zeros_(model.bias)
        return model

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), **optimizer_args)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data).squeeze(1), target) / 2

    def training_data(self):
        data = TabularDataset(["a", "b"], "y", target_dtype="float32")
        return DataManager(data, batch_size=4, shuffle=False)


def hospitals(*slopes: Sequence[float], rows: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """Return tables of columns a, b and y, in which y is another function of a and b at each node, seen from another place."""
    draw = np.random.default_rng(seed)
    tables = {}
    for number, (first, second, third) in enumerate(slopes):
        inputs = draw.normal(size=(rows, 2)) * [1 + number, 1]
        target = inputs @ [first, second] + third
        tables[f"n{number}"] = np.round(np.column_stack([inputs, target]), 4)
    return tables


class Study:
    """A federation of some nodes and one aggregator."""

    def __init__(
        self,
        folder: Path,
        tables: Mapping[str, np.ndarray],
        aggregator: Aggregator | StatefulAggregator,
        *,
        plan: type[TorchTrainingPlan] = LeastSquares,
        updates: Mapping[str, int] | None = None,
        encoding: str = "raw",
        **args: Any,
    ) -> None:
        self.folder, self.tables, self.aggregator = folder, tables, aggregator
        self.encoding = Encoding.parse(encoding)
        self.args: dict[str, Any] = {
            "num_updates": 3,
            "optimizer_args": {"lr": LR},
            "random_seed": 3,
        } | args
        self.updates = updates or {}
        self.source, self.name = plan_source(plan), plan.__name__
        folder.mkdir(exist_ok=True)
        (folder / "plan.py").write_text(self.source)
        self.store = Files(folder / "payloads")
        self.parcels = Parcels(self.store, folder / "parcels")
        made = self.plan()
        made.export_model(folder / "draft")
        self.model = self.store.add(folder / "draft")
        self.memory: Path | None = None
        self.sessions = {node: Session() for node in tables}
        self.kept: dict[str, Content] = {}
        self.number = 0
        self.done: dict[str, Done] = {}
        for node, table in tables.items():
            lines = [",".join(f"{one:.4f}" for one in row) for row in table]
            (folder / node).mkdir(exist_ok=True)
            (folder / node / "table.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")

    def plan(self) -> TorchTrainingPlan:
        made = loaded(self.source, self.name)()
        made.prepare(model_args={}, training_args=TrainingArgs.of(self.args))
        return made

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Return the tensors of the global model."""
        return load_file(self.store.path(self.model))

    @property
    def line(self) -> np.ndarray:
        """Return slopes and intercept of the global model."""
        return line(self.weights)

    def run(self, rounds: int) -> Self:
        for _ in range(rounds):
            self.round()
        return self

    def round(self, nodes: Collection[str] = (), *, memory: Path | None = None) -> None:
        """Run one round with some nodes, or all of them, and with another memory for the aggregator if one is given."""
        self.number += 1
        carries = isinstance(self.aggregator, StatefulAggregator) and self.aggregator.carries
        sent = self.parcels.pack(self.model, self.encoding, carried=self.memory if carries else None)
        contributions = []
        for node in sorted(nodes or self.tables):
            task = self.task(node, sent)
            made = self.sessions[node].run(task, lambda _: None)
            self.done[node] = made.done
            if made.state is not None:
                self.kept[node] = made.state
            contributions.append(self._contribution(node, made))
        draft, base = self.folder / "draft", self.store.path(self.model)
        if isinstance(self.aggregator, StatefulAggregator):
            after = self.folder / "memory" / f"{self.number}"
            recall = Recall(len(self.tables), memory or self.memory, after)
            self.aggregator.aggregate(base, contributions, draft, recall)
            self.memory = after
        else:
            self.aggregator.aggregate(base, contributions, draft)
        self.model = self.store.add(draft)

    def task(self, node: str, sent: PayloadManifest, **changed: Any) -> Order:
        """Return what a node is asked in this round."""
        place = self.folder / node
        args = self.args | ({"num_updates": self.updates[node]} if node in self.updates else {})
        stateful = isinstance(self.aggregator, StatefulAggregator)
        fields: dict[str, Any] = {
            "task_id": TaskId(derived_uuid("task", node, self.number)),
            "experiment_id": derived_uuid("experiment"),
            "run_id": derived_uuid("run"),
            "round": self.number,
            "node_id": PartyId(node),
            "seed": self.number,
            "plan_path": str(self.folder / "plan.py"),
            "plan_name": self.name,
            "plan_hash": plan_hash(self.source),
            "model_args": {},
            "training_args": TrainingArgs.of(args),
            "dataset": DatasetSource(
                dataset_id=derived_uuid("data", node),
                data_type="tabular",
                path=str(place / "table.csv"),
                parameters={},
            ),
            "model": self.parcels.packed(sent),
            "model_encoding": sent.encoding,
            "model_decoded_bytes": sent.decoded_bytes,
            "update_path": str(place / "update"),
            "encoding": str(self.encoding),
            "correction": self.aggregator.correction() if stateful else None,
            "state": self.kept.get(node),
            "state_path": str(place / f"state-{self.number}"),
        }
        return order(**(fields | changed))

    def _contribution(self, node: str, made: Made) -> Contribution:
        done, path = made.done, self.folder / node / "sent"
        path.write_bytes(content_of(made.update))
        size = path.stat().st_size
        update = PayloadManifest(
            sha256=self.store.add(path),
            size_bytes=size,
            encoding=str(self.encoding),
            decoded_bytes=done.update_decoded_bytes,
            inline=False,
        )
        return Contribution(
            PartyId(node),
            self.parcels.unpacked(update),
            done.samples_seen,
            done.samples_train,
            encoded=self.encoding.name != "raw",
            steps=done.steps,
            lr_sum=done.lr_sum,
        )


def line(weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return slopes and intercept of a model."""
    return np.concatenate([weights["weight"].ravel(), weights["bias"]]).astype(np.float64)


def gradient(table: np.ndarray, w: np.ndarray, step: int | None = None) -> np.ndarray:
    """Return the gradient of half the mean squared error, of the batch of a step or of all rows."""
    inputs = np.column_stack([table[:, :2], np.ones(len(table))])
    rows = slice(None)
    if step is not None:
        first = step % (len(table) // BATCH) * BATCH
        rows = slice(first, first + BATCH)
    return inputs[rows].T @ (inputs[rows] @ w - table[rows, 2]) / len(inputs[rows])


def optimum(tables: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return where the mean of the nodes' losses is least."""
    inputs = [np.column_stack([table[:, :2], np.ones(len(table))]) for table in tables.values()]
    left = sum(one.T @ one / len(one) for one in inputs)
    right = sum(one.T @ table[:, 2] / len(one) for one, table in zip(inputs, tables.values(), strict=True))
    return np.linalg.solve(left, right)
