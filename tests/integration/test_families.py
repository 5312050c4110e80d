"""Data of each family trains a model at two nodes, in sandboxed workers."""

import getpass

import numpy as np
import pytest
import torch
from PIL import Image

from common.data import DataManager
from common.datasets import (
    CustomDataset,
    GenotypeDataset,
    ImageFolderDataset,
    JoinedDataset,
    MedicalFolderDataset,
    MnistDataset,
    SignalDataset,
    SurvivalDataset,
    TabularDataset,
    TextDataset,
)
from common.ids import PartyId
from common.mailbox import Mailbox
from common.training_plans import TorchTrainingPlan
from common.training_plans.source import plan_source
from common.transport.memory import MemoryBroker
from node.approval import Approvals
from node.home import NodeHome
from node.registry import Registry
from researcher import Experiment
from researcher.federation import Federation
from tests.support.cohorts import write_bed, write_people, write_vcf
from tests.support.nodes import DEADLINE_S, RunningNode, make_kits
from tests.support.recordings import write_record, write_recording
from tests.support.volumes import write_folder

pytestmark = pytest.mark.usefixtures("forked_processes")

NODES = ("north", "south")


class TablePlan(TorchTrainingPlan):
    """Learn from a table with gaps and categories."""

    def init_model(self, model_args):
        return torch.nn.Linear(5, 2)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_step(self, data, target):
        return torch.nn.functional.cross_entropy(self.model()(data), target)

    def training_data(self):
        dataset = TabularDataset(
            ["age", "sex"],
            "ill",
            missing={"age": "indicator"},
            categories={"sex": ["F", "M", "X"], "ill": ["no", "yes"]},
            standardize={"age": (50.0, 10.0)},
        )
        return DataManager(dataset, batch_size=4)


class SurvivalPlan(TorchTrainingPlan):
    """Learn an exponential rate of death from the same table (Cox and Oakes, 1984, section 3)."""

    def init_model(self, model_args):
        return torch.nn.Linear(1, 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.01)

    def training_step(self, data, target):
        log_rate = self.model()(data).squeeze(1)
        days, died = target.unbind(1)
        return (days * log_rate.exp() - died * log_rate).mean()

    def testing_step(self, data, target):
        return {"loss": self.training_step(data, target).item()}

    def training_data(self):
        dataset = SurvivalDataset("age", "days", "dead", missing={"age": "mean"}, standardize=True)
        return DataManager(dataset, batch_size=4)


class TextPlan(TorchTrainingPlan):
    """Learn from the letters of a note in the same table."""

    def init_model(self, model_args):
        return torch.nn.Sequential(torch.nn.Embedding(27, 4), torch.nn.Flatten(), torch.nn.Linear(12, 2))

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_step(self, data, target):
        return torch.nn.functional.cross_entropy(self.model()(data), target)

    def training_data(self):
        def letters(text):
            return [ord(letter) - ord("a") + 1 for letter in text]

        return DataManager(
            TextDataset("note", "ill", letters, length=3, categories=["no", "yes"]), batch_size=4
        )


class DigitPlan(TorchTrainingPlan):
    """Learn handwritten digits."""

    def init_model(self, model_args):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10))

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_step(self, data, target):
        return torch.nn.functional.cross_entropy(self.model()(data), target)

    def training_data(self):
        return DataManager(MnistDataset(), batch_size=4)


class ImagePlan(TorchTrainingPlan):
    """Tell bright images from dark ones."""

    def init_model(self, model_args):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.5)

    def training_step(self, data, target):
        return torch.nn.functional.cross_entropy(self.model()(data), target)

    def training_data(self):
        return DataManager(
            ImageFolderDataset(classes=["bright", "dark"], mode="L", size=(4, 4)), batch_size=4
        )


class MedicalPlan(TorchTrainingPlan):
    """Segment patches of volumes."""

    def init_model(self, model_args):
        return torch.nn.Conv3d(1, 2, 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_step(self, data, target):
        scores = self.model()(data.flatten(0, 1))
        return torch.nn.functional.cross_entropy(scores, target.flatten(0, 1).squeeze(1))

    def testing_step(self, data, target):
        return {"loss": self.training_step(data, target).item()}

    def training_data(self):
        def alike(both):
            return {name: np.flip(volume, axis=1).copy() for name, volume in both.items()}

        getpass.getuser()  # MONAI does so when it is imported
        dataset = MedicalFolderDataset(
            "T1", "label", joint_transform=alike, orientation="RAS", patch=(2, 2, 2), patches=2
        )
        return DataManager(dataset, batch_size=2)


class SignalPlan(TorchTrainingPlan):
    """Tell recordings apart by windows of one channel."""

    def init_model(self, model_args):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 2))

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.01)

    def training_step(self, data, target):
        return torch.nn.functional.cross_entropy(self.model()(data), target)

    def training_data(self):
        dataset = SignalDataset(["EEG"], rate=5, window_s=2, windows=2, classes=["ill", "well"], unit="uV")
        return DataManager(dataset, batch_size=4)


class GenomicsPlan(TorchTrainingPlan):
    """Predict from variants that one node has in a VCF file, and the other in PLINK files with the other allele counted."""

    def init_model(self, model_args):
        return torch.nn.Linear(3, 2)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_step(self, data, target):
        return torch.nn.functional.cross_entropy(self.model()(data), target)

    def training_data(self):
        people = TabularDataset(["age"], "ill", categories={"ill": ["no", "yes"]}, standardize=True)
        return DataManager(GenotypeDataset(["1:300:C:T", "1:100:A:G"], people, missing="mean"), batch_size=4)


class CustomPlan(TorchTrainingPlan):
    """Read numbers in files of its own."""

    def init_model(self, model_args):
        return torch.nn.Linear(1, 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.01)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data).squeeze(1), target)

    def training_data(self):
        class Numbers(CustomDataset):
            def read(self):
                self.numbers = [float(file.read_text()) for file in sorted(self.path.iterdir())]

            def get_item(self, index):
                return np.float32([self.numbers[index]]), np.float32(2 * self.numbers[index])

            def __len__(self):
                return len(self.numbers)

        return DataManager(Numbers(), batch_size=4)


class JoinedPlan(TorchTrainingPlan):
    """Tell bright images from dark ones, with the ages of those whose they are, standardised over all nodes."""

    def init_model(self, model_args):
        return torch.nn.Linear(17, 2)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.1)

    def training_step(self, data, target):
        image, age = data
        return torch.nn.functional.cross_entropy(
            self.model()(torch.cat([image.flatten(1), age], dim=1)), target
        )

    def testing_step(self, data, target):
        return {"loss": self.training_step(data, target).item()}

    def training_data(self):
        images = ImageFolderDataset(classes=["bright", "dark"], mode="L", size=(4, 4))
        covariates = TabularDataset("age", [], standardize=True)
        return DataManager(JoinedDataset(images, covariates), batch_size=4)


def write_rows(folder, node):
    rng = np.random.default_rng(len(node))
    path = folder / "patients.csv"
    lines = ["age;sex;ill;days;dead;note"]
    for row in range(12):
        age = "" if row == 3 else str(rng.integers(30, 80))
        lines.append(
            f"{age};{'FM'[row % 2]};{('no', 'yes')[row % 3 > 0]};{row + 1};{row % 2};{'abc'[: row % 4]}x"
        )
    path.write_text("\n".join([*lines, "9;9"]) + "\n")
    return path


def write_images(folder, node):
    rng = np.random.default_rng(len(node))
    path = folder
    for index in range(13):
        name, low = [("dark", 0), ("bright", 128)][index % 2]
        path = folder / "scans" / name / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(low, low + 128, (8, 8), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-30])
    return folder / "scans"


def write_digits(folder, node):
    rng = np.random.default_rng(len(node))
    (folder / "mnist").mkdir()
    for name, array in (
        ("train-labels-idx1-ubyte", rng.integers(0, 10, 13, np.uint8)),
        ("train-images-idx3-ubyte", rng.integers(0, 256, (13, 28, 28), np.uint8)),
    ):
        head = np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes()
        (folder / "mnist" / name).write_bytes(head + array.tobytes())
    return folder / "mnist"


def write_volumes(folder, node):
    root = write_folder(folder / "study", 13)
    (root / "sub-5" / "T1" / "t1.nii.gz").write_bytes(b"no volume")
    return root


def write_numbers(folder, node):
    (folder / "numbers").mkdir()
    for index in range(12):
        (folder / "numbers" / f"{index:02}").write_text(str(index))
    return folder / "numbers"


def write_recordings(folder, node):
    """EDF at one node, WFDB at the other."""
    for index in range(13):
        path = folder / "sleep" / ("ill", "well")[index % 2] / f"{index:02}"
        channels = {"EEG": (10, np.full(40, float(index)))}
        if node == "north":
            broken = write_recording(path.with_suffix(".edf"), channels)
        else:
            broken = write_record(path.with_suffix(".hea"), channels, unit="uV").with_suffix(".dat")
    broken.write_bytes(broken.read_bytes()[:-10])
    return folder / "sleep"


def write_genotypes(folder, node):
    root = folder / "cohort"
    root.mkdir()
    names = [f"p{index:02}" for index in range(13)]
    write_people(
        root / "people.tsv",
        {name: [40 + index, ("no", "yes")[index % 2]] for index, name in enumerate(names)},
        ["age", "ill"],
    )
    if node == "north":
        calls = [*(("0/0", "0/1", "1/1")[index % 3] for index in range(12)), "./."]
        write_vcf(root / "all.vcf.gz", {"chr1:100:A:G": calls, "chr1:300:C:T": calls}, names)
    else:
        dosages = [[index % 3, 2 - index % 3, 1] for index in range(12)]
        write_bed(
            root / "all.bed", ["1:300:C:T", "1:100:G:A", "2:5:A:C"], [*dosages, [float("nan")] * 3], names
        )
    return root


def write_covariates(folder, node):
    path = folder / "covariates.csv"
    ages = np.random.default_rng(len(node)).integers(30, 80, 10)
    path.write_text(
        "\n".join(["subject,age", *(f"{index:02},{age}" for index, age in enumerate(ages))]) + "\n"
    )
    return path


FAMILIES = {
    "tabular": (write_rows, {"on_broken": "skip"}),
    "images": (write_images, {"on_broken": "skip"}),
    "mnist": (write_digits, {"leave_out": ["7"]}),
    "medical-folder": (write_volumes, {"on_broken": "skip"}),
    "signals": (write_recordings, {"on_broken": "skip"}),
    "genomics": (write_genotypes, {"on_broken": "skip", "phenotypes": "people.tsv"}),
    "custom": (write_numbers, {}),
}
"""Each writes 12 samples that can be used, and one that cannot if that is possible."""

PLANS = {
    TablePlan: "tabular",
    SurvivalPlan: "tabular",
    TextPlan: "tabular",
    DigitPlan: "mnist",
    ImagePlan: "images",
    MedicalPlan: "medical-folder",
    SignalPlan: "signals",
    GenomicsPlan: "genomics",
    CustomPlan: "custom",
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    kits = make_kits(folder / "kits", {"lab": "researcher"} | dict.fromkeys(NODES, "node"))
    broker = MemoryBroker(kits["lab"].roster.parties())
    nodes = []
    for node in NODES:
        home = NodeHome.create(folder / node, kits[node].path)
        home.settings_path.write_text("worker_threads = 1\n")
        data = folder / f"data-{node}"
        data.mkdir()
        registry, approvals = Registry(home.registry_path), Approvals(home.registry_path)
        for kind, (write, options) in FAMILIES.items():
            registry.add(
                write(data, node),
                name=kind,
                tags=[kind],
                description="small",
                data_type=kind,
                parameters=options,
            )
        registry.add(
            write_covariates(data, node),
            name="covariates",
            tags=["covariates"],
            description="ages of those on the images",
            parameters={"id_column": "subject"},
        )
        for plan in (*PLANS, JoinedPlan):
            approvals.approve_source(plan_source(plan), name=plan.__name__, by="the test")
        registry.close()
        approvals.close()
        nodes.append(RunningNode(home, broker))
    place = Federation(Mailbox.of_kit(kits["lab"], broker.transport(PartyId("lab"))), folder / "lab")
    place.wait_for(list(NODES), DEADLINE_S)
    yield place
    place.close()
    for node in nodes:
        node.stop()


def make(federation, plan, tag, **args):
    return Experiment(
        tags=[tag],
        training_plan_class=plan,
        training_args={
            "num_updates": 2,
            "random_seed": 5,
            "test_ratio": 0.25,
            "test_on_global_updates": True,
        }
        | args,
        round_limit=1,
        federation=federation,
        observers=(),
    )


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
def test_data_of_a_family_trains_a_model_and_a_broken_sample_ends_nothing(federation, plan):
    kind = PLANS[plan]
    experiment = make(federation, plan, kind)

    data = experiment.training_data()
    experiment.run()

    (record,) = experiment.history().training
    experiment.close()
    broken = 0 if kind == "custom" else 1
    assert [(kind, 12, broken)] * 2 == [
        (data[node].data_type, data[node].samples, data[node].left_out) for node in NODES
    ]
    for node in NODES:
        reply = record.nodes[node]
        assert (9, 3) == (reply.samples_train, reply.samples_test)


def test_two_sets_that_are_joined_by_subject_train_a_model_with_moments_of_all_nodes(federation):
    experiment = make(federation, JoinedPlan, "images", join_tags=["covariates"], moments="federation")

    experiment.run()

    measured, trained = experiment.history()[:2]
    (age,) = experiment.moments()
    experiment.close()
    assert ("measure", "train") == (measured.kind, trained.kind)
    for node in NODES:
        reply = trained.nodes[node]
        assert 10 == reply.samples_train + reply.samples_test
    assert age.count == sum(trained.nodes[node].samples_train for node in NODES)
