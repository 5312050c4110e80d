"""The researcher's own optimizer: its numbers, what it leaves alone, and its bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.optimizers import AdamModule, MomentumModule, Optimizer, YogiModule
from common.payload.blocks import BLOCK_ELEMENTS
from common.payload.tensors import load_tensors, save_tensors
from researcher.server_step import server_step

ADAM = Optimizer(
    0.1, modules=[AdamModule(beta_1=0.9, beta_2=0.99, eps=1e-3, bias_correction=False, initial=1e-6)]
)


class Server:
    """A global model that goes from round to round."""

    def __init__(self, folder, optimizer, tensors, metadata=None):
        self.folder, self.optimizer = folder, optimizer
        self.round, self.state = 0, None
        self.model = folder / "model-0"
        save_tensors(self.model, tensors, metadata)

    def go(self, proposal):
        path = self.folder / "proposal"
        save_tensors(path, proposal)
        self.round += 1
        target, state = (self.folder / f"{what}-{self.round}" for what in ("model", "state"))
        server_step(self.optimizer, self.model, path, self.state, target, state)
        self.model, self.state = target, state
        return load_tensors(target)


def test_rounds_walk_by_the_formula_of_fedadam(tmp_path):
    rng = np.random.default_rng(2)
    server = Server(tmp_path, ADAM, {"w": torch.zeros(3, 2, dtype=torch.float64)})
    x, m, v = np.zeros((3, 2)), np.zeros((3, 2)), np.full((3, 2), 1e-6)
    for _ in range(5):
        proposal = x + rng.normal(size=(3, 2))
        change = proposal - x
        m, v = 0.9 * m + 0.1 * change, 0.99 * v + 0.01 * change**2
        x = x + 0.1 * m / (np.sqrt(v) + 1e-3)

        found = server.go({"w": torch.from_numpy(proposal)})["w"].numpy()

        np.testing.assert_allclose(x, found, rtol=1e-9)


def test_without_modules_and_with_rate_one_it_changes_nothing(tmp_path):
    server = Server(tmp_path, Optimizer(1.0), {"w": torch.randn(7, dtype=torch.float64)})
    proposal = torch.randn(7, dtype=torch.float64)

    torch.testing.assert_close(proposal, server.go({"w": proposal})["w"], rtol=1e-15, atol=1e-15)


def test_buffers_and_counters_are_taken_as_they_are(tmp_path):
    norm = torch.nn.BatchNorm1d(2)
    server = Server(tmp_path, ADAM, norm.state_dict(), {"buffers": '["running_mean", "running_var"]'})
    proposal = {name: value + 3 for name, value in norm.state_dict().items()}

    new = server.go(proposal)

    assert [[3.0, 3.0], [4.0, 4.0], 3] == [
        new[name].tolist() for name in ("running_mean", "running_var", "num_batches_tracked")
    ]
    assert new["weight"].tolist() != proposal["weight"].tolist()


@pytest.mark.parametrize(
    "optimizer", [ADAM, Optimizer(0.5, modules=[YogiModule(), MomentumModule()])], ids=str
)
def test_the_same_files_give_the_same_bytes(tmp_path, optimizer):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        server = Server(tmp_path / name, optimizer, {"w": torch.zeros(5), "v": torch.ones(2, 2)})
        for value in (1.0, 2.0, 3.0):
            server.go({"w": torch.full((5,), value), "v": torch.full((2, 2), -value)})
        found.append((server.model.read_bytes(), server.state.read_bytes()))

    assert found[0] == found[1]


def test_large_tensors_go_block_by_block(tmp_path):
    count = BLOCK_ELEMENTS + 5
    server = Server(tmp_path, ADAM, {"w": torch.zeros(count, dtype=torch.float64)})
    change = np.linspace(-1, 1, count)
    new = server.go({"w": torch.from_numpy(change)})["w"].numpy()

    expected = 0.1 * 0.1 * change / (np.sqrt(0.99e-6 + 0.01 * change**2) + 1e-3)
    np.testing.assert_allclose(expected, new, rtol=1e-9)
