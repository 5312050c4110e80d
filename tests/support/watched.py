"""Hospitals that run an experiment over a private RabbitMQ, while a real Prometheus reads all exporters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.exporter import ExporterSettings
from common.training_plans.source import plan_source
from deploy.broker import PrivateBroker
from deploy.demo.hospitals import hospitals, write_csv
from deploy.demo.plan import HeartPlan
from deploy.ports import free_port
from researcher import Experiment
from researcher.history import History
from researcher.monitoring import Observer
from tests.support.prometheus import Prometheus
from tests.support.world import TAG, World

LOGIN = "prometheus:a password of the test"
NAMES = ("cleveland", "hungary", "switzerland", "va")
ARGS = {
    "num_updates": 5,
    "optimizer_args": {"lr": 0.5},
    "test_on_global_updates": True,
    "test_on_local_updates": True,
    "random_seed": 1988,
}


@dataclass(frozen=True)
class Watched:
    """What came of it; everything still runs.

    Attributes:
        prometheus: Has read what all exporters show at the end.
        history: What the ledger says.
        ports: Where each node shows its metrics.
        port: Where the researcher does, to who gives `LOGIN`.
    """

    prometheus: Prometheus
    history: History
    ports: dict[str, int]
    port: int


@contextmanager
def watched(folder: Path, *, rounds: int, observers: tuple[Observer, ...] = ()) -> Iterator[Watched]:
    """Run rounds and a validation at four hospitals, and wait until Prometheus has seen their end."""
    login = folder / "login"
    login.write_text(LOGIN)
    plan = plan_source(HeartPlan)
    with World(folder, list(NAMES), table=_table_in(folder), plan=plan, plan_name="HeartPlan") as world:
        world.broker = PrivateBroker(world.federation, disposable=True)
        ports = {node: free_port() for node in NAMES}
        for node, port in ports.items():
            with world.homes[node].settings_path.open("a") as policy:
                policy.write(f"metrics_port = {port}\n")
        place = world.start().enter()
        port = place.export_metrics(ExporterSettings(port=0, login=login))
        targets = {
            "warren-researcher": [f"127.0.0.1:{port}"],
            "warren-node": [f"127.0.0.1:{port}" for port in ports.values()],
            "rabbitmq": [f"127.0.0.1:{world.broker.endpoint.prometheus_port}"],
        }
        prometheus = Prometheus(folder, targets, LOGIN)
        try:
            prometheus.until(lambda server: len(server.query("up == 1")) == len(NAMES) + 2)
            with Experiment(
                tags=[TAG],
                training_plan_class=HeartPlan,
                training_args=ARGS,
                round_limit=rounds,
                federation=place,
                observers=observers,
                name="heart",
            ) as experiment:
                experiment.run()
                done = f"sum(warren_rounds_total) == {rounds + 1} and sum(warren_node_tasks_total) >= {(rounds + 1) * len(NAMES)}"
                prometheus.until(lambda server: server.query(done))
                prometheus.until(lambda server: server.query("sum(rate(warren_node_cpu_seconds_total[1m]))"))
                yield Watched(prometheus, experiment.history(), ports, port)
        finally:
            prometheus.stop()


def _table_in(folder):
    def table(node):
        write_csv(hospitals()[node], folder / "table.csv")
        return (folder / "table.csv").read_text()

    return table
