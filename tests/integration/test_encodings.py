"""Experiments whose updates are encoded come as far as those whose updates are not."""

import numpy as np
import pytest
import torch

from tests.support.encodings import Link


class Regression:
    """Four hospitals that fit one logistic regression by federated averaging; features are not alike between them."""

    FEATURES, SAMPLES, NODES, RATE, ROUNDS = 2048, 100, 4, 0.3, 20

    def __init__(self):
        draw = np.random.default_rng(0)
        truth = draw.standard_normal(self.FEATURES) * (np.arange(self.FEATURES) % 20 == 0)
        self.data = []
        for _ in range(self.NODES):
            scales = 0.5 + draw.random(self.FEATURES)
            inputs = draw.standard_normal((self.SAMPLES, self.FEATURES)) * scales
            self.data.append((inputs, (inputs @ truth > 0).astype(float)))

    def loss(self, weights):
        losses = [np.logaddexp(0, x @ weights) - y * (x @ weights) for x, y in self.data]
        return float(np.mean(losses))

    def train(self, weights, node):
        inputs, target = self.data[node]
        for _ in range(3):
            errors = 1 / (1 + np.exp(-(inputs @ weights))) - target
            weights = weights - self.RATE / self.SAMPLES * (errors @ inputs)
        return weights

    def run(self, links):
        weights = np.zeros(self.FEATURES, dtype=np.float32)
        for _ in range(self.ROUNDS):
            base = {"w": torch.from_numpy(weights)}
            updates = []
            for node, link in enumerate(links):
                mine = self.train(weights.astype(float), node).astype(np.float32)
                updates.append(link.send({"w": torch.from_numpy(mine)}, base)["w"].numpy())
            weights = np.mean(updates, axis=0, dtype=float).astype(np.float32)
        return self.loss(weights)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    problem, folder = Regression(), tmp_path_factory.mktemp("raw")
    return problem, problem.run([Link(folder / f"{node}", "raw") for node in range(4)])


@pytest.mark.parametrize(
    ("encoding", "slower"), [("fp16", 1.001), ("bf16", 1.001), ("int8", 1.005), ("topk:0.1", 1.25)]
)
def test_federated_averaging_comes_as_far_as_without_encoding(tmp_path, regression, encoding, slower):
    problem, plain = regression

    encoded = problem.run([Link(tmp_path / f"{node}", encoding) for node in range(4)])

    assert encoded < slower * plain
    assert plain < 0.1 * problem.loss(np.zeros(problem.FEATURES))


def test_without_feedback_topk_stops_short_of_where_it_gets_with_it(tmp_path, regression):
    problem, _ = regression

    forgetful, careful = (
        problem.run(
            [Link(tmp_path / f"{feedback}-{node}", "topk:0.01", feedback=feedback) for node in range(4)],
        )
        for feedback in (False, True)
    )

    assert careful < 0.8 * forgetful
