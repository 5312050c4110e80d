"""An experiment with real nodes sends and receives in any encoding."""

import pytest
import torch

from common.data import DataManager
from common.datasets import TabularDataset
from common.ids import PartyId
from common.mailbox import Mailbox
from common.payload.tensors import load_tensors
from common.training_plans import TorchTrainingPlan
from common.training_plans.source import plan_source
from common.transport.memory import MemoryBroker
from researcher import Experiment
from researcher.federation import Federation
from tests.support.holdings import data_of
from tests.support.nodes import DEADLINE_S, RunningNode, make_home, make_kits
from tests.support.quick_workers import quick_workers  # noqa: F401 - a fixture

NODES = ("north", "south")


class RampPlan(TorchTrainingPlan):
    """Add a ramp to the weights, and one to the bias."""

    def init_model(self, model_args):
        return torch.nn.Linear(model_args["features"], 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=1.0)

    def training_step(self, data, target):
        model = self.model()
        ramp = torch.linspace(0.5, 1.0, model.weight.numel())
        return -(model.weight * ramp).sum() - model.bias.sum()

    def training_data(self):
        return DataManager(TabularDataset("x", "y"), batch_size=8)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    kits = make_kits(folder / "kits", {"lab": "researcher"} | dict.fromkeys(NODES, "node"))
    broker = MemoryBroker(kits["lab"].roster.parties())
    homes = [make_home(folder / node, kits[node], plans=(plan_source(RampPlan),)) for node in NODES]
    nodes = [RunningNode(home, broker) for home in homes]
    place = Federation(Mailbox.of_kit(kits["lab"], broker.transport(PartyId("lab"))), folder / "lab")
    place.wait_for(list(NODES), DEADLINE_S)
    yield place
    place.close()
    for node in nodes:
        node.stop()


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("features", [4000, 100_000], ids=["inline", "chunks"])
def test_one_experiment_goes_through_all_encodings_and_each_round_is_right_and_smaller(
    federation, tmp_path, features
):
    experiment = Experiment(
        tags=["trial"],
        training_plan_class=RampPlan,
        training_args={"num_updates": 1, "random_seed": 5},
        model_args={"features": features},
        federation=federation,
        observers=(),
    )
    ramp, before, found = torch.linspace(0.5, 1.0, features), None, {}
    for encoding in ("raw", "fp16", "bf16+zstd", "int8+zstd", "topk:0.25", "int8"):
        experiment.set_encoding(encoding)
        experiment.run_once()
        experiment.training_plan().export_model(tmp_path / "model")
        weight = load_tensors(tmp_path / "model")["weight"].flatten()
        if before is not None:
            found[encoding] = weight - before
        before = weight

    rounds = experiment.history()
    experiment.close()
    torch.testing.assert_close(ramp, found["fp16"], rtol=2**-10, atol=1e-6)
    torch.testing.assert_close(ramp, found["bf16+zstd"], rtol=2**-7, atol=1e-6)
    torch.testing.assert_close(ramp, found["int8+zstd"], rtol=0, atol=1 / 127)
    changed = (found["topk:0.25"] != 0).float().mean().item()
    assert 0.2 < changed < 0.3
    # what topk left out comes with the next round
    torch.testing.assert_close(
        3 * ramp, found["int8+zstd"] + found["topk:0.25"] + found["int8"], rtol=0, atol=0.02
    )

    least = [1, 1.9, 2.1, 3.5, 3.5, 3.5]
    sizes = [
        [len(data_of(experiment.folder, one.digest)) for one in record.nodes.values()] for record in rounds
    ]
    raw = sizes[0][0]
    for record, found_sizes, ratio in zip(rounds, sizes, least, strict=True):
        assert max(found_sizes) * ratio <= raw, record.encoding
    assert ["raw", "fp16", "bf16+zstd", "raw+zstd", "raw", "raw"] == [one.sent.encoding for one in rounds]
    assert rounds[1].sent.size_bytes * 1.9 < raw
    assert not (experiment.folder / "parcels").exists()
