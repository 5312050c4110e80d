"""Data of each family trains a model at two nodes, in sandboxed workers."""

import numpy as np
import torch
from PIL import Image

from common.data import DataManager
from common.datasets import ImageFolderDataset
from common.training_plans import TorchTrainingPlan
from tests.support.federated import NODES, TAG, experiment


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


def test_a_folder_of_images_with_a_broken_one_trains_a_model(tmp_path):
    def register(registry, node):
        rng = np.random.default_rng(len(node))
        for index in range(12):
            name, low = [("dark", 0), ("bright", 128)][index % 2]
            path = tmp_path / f"data-{node}" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(low, low + 128, (8, 8), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-30])
        registry.add(
            tmp_path / f"data-{node}",
            name="scans",
            tags=[TAG],
            description="bright and dark squares",
            data_type="images",
            parameters={"on_broken": "skip"},
        )

    with experiment(tmp_path, ImagePlan, register, round_limit=2) as made:
        data = made.training_data()
        made.run()
        rounds = made.history()

    assert [(11, 1)] * 2 == [(data[node].samples, data[node].left_out) for node in NODES]
    for node in NODES:
        reply = rounds[-1].nodes[node]
        assert 11 == reply.samples_train + reply.samples_test
