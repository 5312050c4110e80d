"""Hospitals that train a network together come as far with every encoding as without, and pay less for it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from common.ids import PartyId, derived_uuid
from common.messages import PayloadManifest
from common.payload.encodings.choice import Encoding
from common.payload.header import Content
from common.training_args import TrainingArgs
from common.training_plans.source import plan_hash
from deploy.demo.hospitals import FEATURES, hospitals, write_csv
from node.worker.protocol import DatasetSource, Made
from node.worker.session import Session
from researcher.aggregators import Contribution, FedAverage
from researcher.parcels import Parcels
from tests.support.holdings import Files
from tests.support.plans import loaded
from tests.support.tasks import content_of, order

PLAN = '''
import torch
from torch import nn
from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    """A network with one hidden layer, trained on all patients at once."""

    def init_model(self, model_args):
        hidden = 256
        return nn.Sequential(nn.Linear(len(model_args["inputs"]), hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), **optimizer_args)

    def training_step(self, data, target):
        return nn.functional.binary_cross_entropy_with_logits(self.model()(data).squeeze(1), target)

    def training_data(self):
        inputs = tuple(self.model_args()["inputs"])
        data = TabularDataset(
            input_columns=inputs,
            target_columns="target",
            split_column="split",
            standardize=True,
            target_dtype="float32",
        )
        return DataManager(data, batch_size=None)
'''


@dataclass
class Site:
    """One hospital: its table, its warm worker, and the folder of that, in which the state stays."""

    node: PartyId
    table: Path
    folder: Path
    session: Session
    kept: Content | None = None


class Study:
    """Rounds of federated averaging through workers, encodings and aggregator; only messages are missing."""

    def __init__(self, folder: Path, tables: dict[str, Path], inputs: tuple[str, ...], encoding: str) -> None:
        self.folder = folder
        self.inputs = list(inputs)
        self.encoding = Encoding.parse(encoding)
        self.args = TrainingArgs(
            num_updates=5, optimizer_args={"lr": 0.3}, log_interval=1, random_seed=1988, test_ratio=0.0
        )
        self.store = Files(folder / "payloads")
        self.parcels = Parcels(self.store, folder / "parcels")
        self.plan = folder / "plan.py"
        self.plan.write_text(PLAN)
        self.sites = []
        for node, table in tables.items():
            place = folder / node
            place.mkdir()
            self.sites.append(Site(PartyId(node), table, place, Session()))
        plan = loaded(PLAN)()
        plan.prepare(model_args={"inputs": self.inputs}, training_args=self.args)
        plan.export_model(folder / "draft")
        self.model = self.store.add(folder / "draft")
        self.sent_bytes = 0

    def round(self, number: int) -> float:
        """Train one round; return the loss of the model that it began with, over all patients of all hospitals."""
        sent = self.parcels.pack(self.model, self.encoding)
        contributions, losses = [], []
        for site in self.sites:
            made = self._train(site, sent, number)
            done = made.done
            losses.append((done.losses[0].loss, done.samples_train))
            contributions.append(
                Contribution(
                    site.node,
                    self._take_in(site, made),
                    done.samples_seen,
                    done.samples_train,
                    encoded=self.encoding.name != "raw",
                )
            )
        draft = self.folder / "draft"
        FedAverage().aggregate(self.store.path(self.model), contributions, draft)
        self.model = self.store.add(draft)
        loss, patients = np.array(losses).T
        return float((loss * patients).sum() / patients.sum())

    def _train(self, site: Site, sent: PayloadManifest, number: int) -> Made:
        source = DatasetSource(
            dataset_id=derived_uuid("data", site.node),
            data_type="tabular",
            path=str(site.table),
            parameters={},
        )
        task = order(
            task_id=derived_uuid("task", site.node, number),
            experiment_id=derived_uuid("experiment"),
            run_id=derived_uuid("run"),
            round=number,
            node_id=site.node,
            seed=number,
            plan_path=str(self.plan),
            plan_name="Plan",
            plan_hash=plan_hash(PLAN),
            model_args={"inputs": self.inputs},
            training_args=self.args,
            dataset=source,
            model=self.parcels.packed(sent),
            model_encoding=sent.encoding,
            model_decoded_bytes=sent.decoded_bytes,
            update_path=str(site.folder / "update"),
            encoding=str(self.encoding),
            state=site.kept,
            state_path=str(site.folder / f"state-{number}"),
        )
        made = site.session.run(task, lambda progress: None)
        site.kept = made.state
        return made

    def _take_in(self, site: Site, made: Made) -> Path:
        path = site.folder / "sent"
        path.write_bytes(content_of(made.update))
        size = path.stat().st_size
        update = PayloadManifest(
            sha256=self.store.add(path),
            size_bytes=size,
            encoding=str(self.encoding),
            decoded_bytes=made.done.update_decoded_bytes,
            inline=False,
        )
        self.sent_bytes += update.size_bytes
        return self.parcels.unpacked(update)


def heart(folder):
    """Write the tables of the four hospitals of the demo."""
    for name, hospital in hospitals().items():
        write_csv(hospital, folder / f"{name}.csv")
    return {name: folder / f"{name}.csv" for name in hospitals()}, FEATURES


def made_up(folder):
    """Write tables of four hospitals that measure on different scales and see different patients."""
    draw, inputs = np.random.default_rng(4), tuple(f"x{number}" for number in range(40))
    truth = draw.standard_normal((2, 40))
    tables = {}
    for node in range(4):
        values = draw.standard_normal((60, 40)) * (0.5 + draw.random(40)) + 0.3 * node
        target = (values @ truth[0]) * (values @ truth[1]) > 0
        lines = [
            ",".join([*(f"{one:.4f}" for one in row), str(int(y)), "train"])
            for row, y in zip(values, target, strict=True)
        ]
        tables[f"n{node}"] = folder / f"n{node}.csv"
        tables[f"n{node}"].write_text("\n".join([",".join((*inputs, "target", "split")), *lines]) + "\n")
    return tables, inputs


ROUNDS = 20


@pytest.fixture(scope="module", params=[heart, made_up], ids=["heart", "made-up"])
def problem(request, tmp_path_factory):
    """Return what to train on, and the losses and bytes of training without encoding."""
    folder = tmp_path_factory.mktemp("tables")
    tables, inputs = request.param(folder)
    study = Study(tmp_path_factory.mktemp("raw"), tables, inputs, "raw")
    losses = [study.round(number) for number in range(ROUNDS)]
    return tables, inputs, losses, study.sent_bytes


@pytest.mark.parametrize(
    ("encoding", "slower", "smaller"),
    [("fp16", 1.0001, 1.5), ("bf16", 1.001, 1.5), ("int8+zstd", 1.001, 2.5), ("topk:0.1", 1.03, 3.5)],
)
def test_training_comes_as_far_as_without_encoding(tmp_path, problem, encoding, slower, smaller):
    tables, inputs, plain, plain_bytes = problem
    study = Study(tmp_path, tables, inputs, encoding)

    losses = [study.round(number) for number in range(ROUNDS)]

    assert plain[-1] < 0.75 * plain[0]
    assert losses[-1] < slower * plain[-1]
    assert study.sent_bytes * smaller < plain_bytes
