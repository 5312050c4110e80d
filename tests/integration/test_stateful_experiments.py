"""An experiment whose nodes and aggregator remember gives the same bytes as the algorithm alone, whatever dies on the way."""

import pytest

from common.data import DataManager
from common.datasets import TabularDataset
from common.errors import InvalidSettingsError
from common.ids import PartyId
from common.mailbox import Mailbox
from common.training_plans import TorchTrainingPlan
from common.training_plans.source import plan_source
from common.transport.memory import MemoryBroker
from node.registry import Registry
from researcher import AsyncStrategy, Experiment, FedAverage, Scaffold
from researcher.federation import Federation
from researcher.monitoring import UpdateArrived
from tests.support.experiments import Death, dying
from tests.support.holdings import digests_of, tensors_of
from tests.support.nodes import DEADLINE_S, RunningNode, make_home, make_kits
from tests.support.study import LeastSquares, Study, hospitals

pytestmark = pytest.mark.usefixtures("forked_processes")

TABLES = hospitals((1.0, -2.0, 0.5), (3.0, 0.0, -1.0))


class Headed(TorchTrainingPlan):
    """Keep the intercept at the node."""

    def init_model(self, model_args):
        import torch

        return torch.nn.Linear(2, 1)

    def init_optimizer(self, optimizer_args):
        import torch

        return torch.optim.SGD(self.model().parameters(), lr=0.05)

    def training_step(self, data, target):
        return (self.model()(data).squeeze(1) - target).square().mean()

    def training_data(self):
        data = TabularDataset(["a", "b"], "y", target_dtype="float32")
        return DataManager(data, batch_size=4, shuffle=False)

    def tag_parameters(self, name):
        return {"local", "persistent"} if name == "bias" else set()


class Hospitals:
    """Two real nodes with real workers, and a researcher."""

    def __init__(self, folder):
        self.folder = folder
        kits = make_kits(folder / "kits", {"lab": "researcher"} | dict.fromkeys(TABLES, "node"))
        self.broker = MemoryBroker(kits["lab"].roster.parties())
        plans = (plan_source(LeastSquares), plan_source(Headed))
        self.homes = {}
        for node, table in TABLES.items():
            home = self.homes[node] = make_home(folder / node, kits[node], plans=plans)
            lines = [",".join(f"{one:.4f}" for one in row) for row in table]
            (folder / f"{node}.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
            registry = Registry(home.registry_path)
            registry.add(
                folder / f"{node}.csv",
                name="line",
                tags=["line"],
                description="for lines",
                data_type="tabular",
            )
            registry.close()
        self.nodes = {}
        self.start()
        mailbox = Mailbox.of_kit(kits["lab"], self.broker.transport(PartyId("lab")))
        self.place = Federation(mailbox, folder / "lab")
        self.place.wait_for(list(TABLES), DEADLINE_S)

    def start(self):
        self.nodes = {node: RunningNode(home, self.broker) for node, home in self.homes.items()}

    def restart(self):
        for node in self.nodes.values():
            node.stop()
        self.start()
        self.place.wait_for(list(TABLES), DEADLINE_S)

    def states(self, node):
        """Return how many states a node keeps of an experiment."""
        rows = self.nodes[node].agent._journal._db.execute(
            "SELECT experiment_id, count(*) FROM state GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows.fetchall()}

    def experiment(self, aggregator, plan=LeastSquares, **changes):
        args = {"num_updates": 3, "optimizer_args": {"lr": 0.05}, "random_seed": 3}
        settings = {
            "tags": ["line"],
            "training_plan_class": plan,
            "training_args": args,
            "aggregator": aggregator,
            "federation": self.place,
            "observers": (),
        }
        return Experiment(**(settings | changes))

    def close(self):
        self.place.close()
        for node in self.nodes.values():
            node.stop()


@pytest.fixture(scope="module")
def hospitals_(tmp_path_factory):
    made = Hospitals(tmp_path_factory.mktemp("hospitals"))
    yield made
    made.close()


def models(experiment):
    return [one.model for one in experiment.history().training]


def test_an_experiment_is_the_algorithm_byte_for_byte_whatever_dies(hospitals_, tmp_path):
    study = Study(tmp_path, TABLES, Scaffold())
    expected = []
    for _ in range(3):
        study.round()
        expected.append(study.model)

    experiment = hospitals_.experiment(Scaffold())
    experiment.run(1)
    hospitals_.restart()
    dying(experiment, UpdateArrived)  # with one update of the second round accepted
    with pytest.raises(Death):
        experiment.run(1)
    folder = experiment.folder
    experiment._dossier.close()
    experiment = Experiment.resume(folder, federation=hospitals_.place, observers=())
    experiment.run(2)

    assert expected == models(experiment)
    assert [True] * 3 == [Experiment.load(folder, round=number).replay().same for number in (1, 2, 3)]
    assert {2} == {hospitals_.states(node)[experiment.info()["id"]] for node in TABLES}
    experiment.close()


def test_a_branch_starts_with_fresh_nodes_and_a_fresh_memory(hospitals_, tmp_path):
    experiment = hospitals_.experiment(Scaffold())
    experiment.run(2)
    branch = Experiment.load(experiment.folder, round=1, federation=hospitals_.place).branch("again")
    branch.run(1)

    study = Study(tmp_path, TABLES, Scaffold())
    study.round()
    first = study.model
    study.memory = None
    study.kept.clear()
    study.round()

    assert [first, study.model] == [models(experiment)[0], models(branch)[0]]
    branch.close()
    experiment.close()


def test_a_personal_head_never_reaches_the_researcher(hospitals_, tmp_path):
    study = Study(tmp_path, TABLES, FedAverage("dataset_size"), plan=Headed)
    study.run(2)

    experiment = hospitals_.experiment(FedAverage("dataset_size"), Headed)
    experiment.run(2)

    assert study.model == models(experiment)[-1]
    kept = digests_of(experiment.folder)
    assert len(kept) > 2
    for digest in kept:
        assert ["weight"] == list(tensors_of(experiment.folder, digest))
    experiment.close()


def test_an_algorithm_with_a_memory_needs_rounds(hospitals_):
    with pytest.raises(InvalidSettingsError, match="Scaffold needs rounds"):
        hospitals_.experiment(Scaffold(), node_selection_strategy=AsyncStrategy(buffer=1))
