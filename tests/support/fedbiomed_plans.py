"""Four plans in the shapes that Fed-BioMed's users write; only the import lines are Warren's."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from common.data import DataManager
from common.training_plans import ProcessTypes, TorchTrainingPlan


class DigitsPlan(TorchTrainingPlan):
    """The basic example: a small convolutional network on pictures of digits."""

    def init_model(self, model_args):
        """Return the network."""
        return self.Net(model_args=model_args)

    def init_optimizer(self, optimizer_args):
        """Return Adam with the rate of the researcher."""
        return torch.optim.Adam(self.model().parameters(), lr=optimizer_args["lr"])

    def init_dependencies(self):
        """Return what the plan needs at a node."""
        return [
            "import numpy as np",
            "import torch.nn.functional as F",
            "from torch.utils.data import Dataset",
        ]

    class Net(nn.Module):
        """Two convolutions with normalised channels, and two layers upon them."""

        def __init__(self, model_args):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3, 1)
            self.norm1 = nn.BatchNorm2d(4)
            self.conv2 = nn.Conv2d(4, 8, 3, 1)
            self.dropout = nn.Dropout(0.25)
            self.fc1 = nn.Linear(32, 16)
            self.fc2 = nn.Linear(16, model_args["classes"])

        def forward(self, x):
            """Return the logarithms of the probabilities."""
            x = F.relu(self.norm1(self.conv1(x)))  # noqa: F821 - comes from init_dependencies
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # noqa: F821
            x = self.dropout(torch.flatten(x, 1))
            return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)  # noqa: F821

    class Pictures(Dataset):
        """Pictures in one array, their labels in another."""

        def __init__(self, folder):
            self.pictures = np.load(folder / "pictures.npy")
            self.labels = np.load(folder / "labels.npy")

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, index):
            return torch.from_numpy(self.pictures[index]).unsqueeze(0), int(self.labels[index])

    def training_data(self):
        """Return the pictures of the node."""
        train_kwargs = {"shuffle": True}
        return DataManager(dataset=self.Pictures(self.dataset_path), **train_kwargs)

    def training_step(self, data, target):
        """Return the negative log-likelihood."""
        output = self.model().forward(data)
        return torch.nn.functional.nll_loss(output, target)


class CustomPlan(DigitsPlan):
    """A plan with metrics of its own, scaled inputs, and parameters that it rounds before they leave."""

    def training_data(self, batch_size=8):
        """Return the pictures of the node, to be scaled."""
        self.add_preprocess(method=self.scaled, process_type=ProcessTypes.DATA_LOADER)
        return DataManager(self.Pictures(self.dataset_path), batch_size=batch_size, shuffle=True)

    def scaled(self, data_loader):
        """Return the batches with inputs between -1 and 1."""
        return [(data / data.abs().max(), target) for data, target in data_loader]

    def testing_step(self, data, target):
        """Return the loss and the share of right answers."""
        output = self.model()(data)
        right = (output.argmax(dim=1) == target).float().mean()
        return {"nll": torch.nn.functional.nll_loss(output, target), "right": right}

    def postprocess(self, params):
        """Return the parameters with three decimals."""
        return {
            name: torch.round(value, decimals=3) if value.is_floating_point() else value
            for name, value in params.items()
        }


class TransferPlan(DigitsPlan):
    """Transfer learning: only the last layer of a network learns."""

    def init_model(self, model_args):
        """Return a network whose features are frozen and whose head is new."""
        model = self.Net(model_args=model_args)
        for param in model.parameters():
            param.requires_grad = False
        model.fc2 = nn.Linear(model.fc2.in_features, model_args["classes"])
        return model


class LayersPlan(DigitsPlan):
    """Another learning rate for each part of the network."""

    def init_optimizer(self, optimizer_args):
        """Return SGD with the rates that the researcher names by layer."""
        rates = optimizer_args["lr"]
        return torch.optim.SGD(
            [
                {"params": getattr(self.model(), layer).parameters(), "lr": rate}
                for layer, rate in rates.items()
            ]
        )
