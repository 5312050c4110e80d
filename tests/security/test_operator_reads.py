"""Whoever operates the broker can read every queue and every file of it, and learns nothing but who writes to whom, when, how much."""

from __future__ import annotations

import re
import struct

import pytest

from common.training_plans.source import plan_source
from researcher import Experiment
from researcher.experiment_file import import_plan
from tests.support.intruder import SPY, Intruder, eventually, files_with
from tests.support.world import TAG, World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

PATTERN = 48271.625
"""The value of every parameter, whose four bytes come one after the other in a model."""

PLAN = f'''
import torch
from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan


class SecretPlan(TorchTrainingPlan):
    """MARKER-IN-THE-PLAN."""

    def init_model(self, model_args):
        model = torch.nn.Module()
        model.marker_tensor = torch.nn.Parameter(torch.full((model_args["parameters"],), {PATTERN}))
        return model

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.0)

    def training_step(self, data, target):
        return 0.0 * self.model().marker_tensor.sum() + 0.6180339887

    def testing_step(self, data, target):
        return {{"marker_metric": 0.5772156649}}

    def training_data(self):
        return DataManager(TabularDataset("marker_column", "y"), batch_size=8)
'''

TABLE = "marker_column,y\n" + "".join(f"{row},{row % 2}\n" for row in range(16))

SECRETS = {
    "plan": b"MARKER-IN-THE-PLAN",
    "name of the plan": b"SecretPlan",
    "arguments": b"MARKER-IN-THE-ARGUMENTS",
    "note": b"MARKER-IN-THE-NOTE",
    "tags": b'"tags":["trial"]',
    "description of the data set": b"a table made for a test",
    "column": b"marker_column",
    "metric": b"marker_metric",
    "value of a metric": b"0.577215664",
    "loss": b"0.618033",
    "name of a tensor": b"marker_tensor",
    "values of tensors": struct.pack("<4f", *4 * [PATTERN]),
}


@pytest.fixture(scope="module")
def overheard(tmp_path_factory):
    """What the operator of a broker got hold of while an experiment ran: messages, files; and what the parties said meanwhile."""
    folder = tmp_path_factory.mktemp("overheard")
    (folder / "plan.py").write_text(PLAN)
    plan = import_plan(folder / "plan.py", "SecretPlan")
    with World(folder, ["north"], table=TABLE, plan=plan_source(plan), plan_name="SecretPlan") as world:
        world.start()
        intruder = Intruder(world.broker.endpoint.admin("trial"), "trial")
        intruder.spy()
        intruder.write(
            SPY, b"WRITTEN-IN-CLEAR", user=None
        )  # shows that looking into the files finds something
        place = world.enter()
        with Experiment(
            tags=[TAG],
            training_plan_class=plan,
            training_args={
                "num_updates": 2,
                "random_seed": 1,
                "test_ratio": 0.5,
                "test_on_local_updates": True,
                "test_on_global_updates": True,
                "optimizer_args": {"why": "MARKER-IN-THE-ARGUMENTS"},
            },
            model_args={"parameters": 100_000},  # 400 kB: in chunks
            round_limit=1,
            federation=place,
            observers=(),
        ) as experiment:
            experiment.request_approval("MARKER-IN-THE-NOTE")
            experiment.run()
            history = experiment.history()
        waiting = {name: intruder.read(name) for name in intruder.queues()}
        copies = intruder.copies()
        data = world.broker.folder
        eventually(lambda: files_with(data, b"WRITTEN-IN-CLEAR"))
        found = {name: files_with(data, marker) for name, marker in SECRETS.items()}
        yield copies, waiting, found, history


def test_the_experiment_carried_every_secret(overheard):
    copies, _, _, history = overheard
    kinds = {(copy.exchange, key.rpartition(".")[2]) for copy in copies for key in copy.routing_keys}

    assert "accepted" == history[0].nodes["north"].outcome
    assert {0.5772156649} == set(history[0].nodes["north"].metrics.values())
    assert {
        ("out.alice", "control"),
        ("out.alice", "bulk"),
        ("out.north", "control"),
        ("out.north", "bulk"),
        ("out.north", "telemetry"),
    } <= kinds
    assert sum(len(copy.body) for copy in copies) > 2 * 400_000


@pytest.mark.parametrize("secret", SECRETS)
def test_no_message_shows_it(overheard, secret):
    copies, waiting, _, _ = overheard
    marker = SECRETS[secret]

    assert [] == [copy for copy in copies if marker in copy.body or marker in str(copy.properties).encode()]
    assert {
        name: messages for name, messages in waiting.items() if marker.decode("latin-1") in str(messages)
    } == {}


@pytest.mark.parametrize("secret", SECRETS)
def test_no_file_of_the_broker_shows_it(overheard, secret):
    _, _, found, _ = overheard

    assert [] == found[secret]


def test_every_message_is_sealed_and_its_properties_say_no_more_than_who_and_how(overheard):
    copies = [copy for copy in overheard[0] if copy.exchange]

    assert all(copy.body.startswith(b"WRS1") for copy in copies)
    assert {name for copy in copies for name in copy.properties} <= {
        "user_id", "delivery_mode", "headers", "message_id", "expiration", "timestamp", "content_type", "type",
    }  # fmt: skip
    assert {name for copy in copies for name in copy.properties.get("headers", {})} <= {"CC"}
    assert all(
        re.fullmatch(r"[a-z]+\.(control|bulk|telemetry)", key) for copy in copies for key in copy.routing_keys
    )
