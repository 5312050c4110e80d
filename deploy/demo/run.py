"""Run the demo: set up a throw-away federation, train, and leave nothing behind but the results."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from common.errors import BrokerMissingError, ExperimentCancelledError
from common.ids import PartyId
from common.training_plans.source import plan_hash, plan_source
from deploy.demo.baselines import Linear
from deploy.demo.hospitals import NAMES, hospitals, write_csv
from deploy.demo.interrupts import Interrupts
from deploy.demo.report import MODEL, write_files
from deploy.demo.results import Clockings, Results, RoundFacts
from deploy.demo.screen import Screen
from deploy.demo.stages import BrokerKind, MemoryStage, RabbitStage, Stage, wait_online
from deploy.federation import Federation
from node.approval import Approvals
from node.home import NodeHome
from node.registry import Registry

if TYPE_CHECKING:
    from deploy.demo.plan import HeartPlan
    from researcher import Experiment
    from researcher.federation import Federation as Place
    from researcher.history import RoundRecord

RESEARCHER: Final = "researcher"
TAGS: Final = ("heart", "uci")

TRAINING_ARGS: Final[dict[str, Any]] = {
    "num_updates": 5,
    "optimizer_args": {"lr": 0.5},
    "test_on_global_updates": True,
    "random_seed": 1988,
}
"""Five full-batch steps at 0.5 and 15 rounds end 0.0010 above the pooled optimum's train log-loss, with its mean accuracy.

More or longer steps drift apart between hospitals, whose patients differ: ten steps at 2.0 end 0.0030 above, for good.
Fewer or shorter ones have not arrived: five at 0.1 end 0.0081 above.
"""

_POLICY: Final = "worker_threads = 1\ncompulsory_protections = []\n"
"""Four workers share this machine, and the data are public: workers are shut in as well as it allows."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose."""

    out: Path
    rounds: int = 15
    broker: BrokerKind = "rabbitmq"


def run_demo(options: Options, screen: Screen, *, launched_at: float) -> tuple[Results, list[Path]]:
    """Run the demo and write its results into a folder, replacing those of an earlier run.

    However it ends, no process, port or temporary file is left. After SIGKILL its children end too, but a folder
    `warren-demo-*` stays in the temporary directory. For the main thread only.

    Args:
        options: What a person chose.
        screen: Shows what happens.
        launched_at: Unix time from which seconds are counted.

    Returns:
        What came of it, and the files that were written.

    Raises:
        KeyboardInterrupt: If a person or the system stopped it; its argument is the signal.
        WarrenError: If something failed.
    """
    with Interrupts() as interrupts, ExitStack() as cleanup, interrupts.allowed():
        results = _Run(options, screen, launched_at, interrupts, cleanup).all()
        return results, write_files(results, options.out)


class _Run:
    """One run. Whatever is started is put onto `cleanup` before a signal can come between."""

    def __init__(
        self,
        options: Options,
        screen: Screen,
        launched_at: float,
        interrupts: Interrupts,
        cleanup: ExitStack,
    ) -> None:
        self._options = options
        self._screen = screen
        self._launched_at = launched_at
        self._interrupts = interrupts
        self._cleanup = cleanup

    def all(self) -> Results:
        """Do everything, in an order in which the broker boots while the rest is made."""
        self._options.out.mkdir(parents=True, exist_ok=True)
        with self._interrupts.held():
            folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="warren-demo-")))
        federation = _federation(folder / "federation")
        self._screen.step(
            f"made a federation of one researcher and {len(NAMES)} hospitals, each with its certificate and keys"
        )
        stage = self._stage(federation)
        homes = [self._hospital(federation, stage, name, folder / name) for name in NAMES]
        self._screen.step(f"started {len(homes)} node agents, each with the patients of its own hospital")
        approved = _approve(homes)
        self._screen.step(
            'approved the plan at each node as "the demo"; a real node runs only what its own people approved'
        )
        stage.wait_ready()
        place = self._enter(stage, federation, folder / RESEARCHER)
        wait_online(stage, place, list(NAMES))
        ready_s = self._since_launch(time.time())
        self._screen.step("all nodes are online")
        experiment = self._train(place, stage)
        return self._results(experiment, stage.kind, approved, ready_s)

    def _stage(self, federation: Federation) -> Stage:
        """Start the broker that was asked for, or the one in memory when there is no RabbitMQ."""
        stage: Stage = (
            MemoryStage(federation) if self._options.broker == "memory" else RabbitStage(federation)
        )
        with self._interrupts.held():
            self._cleanup.callback(stage.close)
            try:
                stage.launch()
            except BrokerMissingError as error:
                self._screen.say(f"{error}: messages stay in memory instead")
                stage = MemoryStage(federation)
                self._cleanup.callback(stage.close)
        if stage.kind == "rabbitmq":
            self._screen.step("started a private RabbitMQ, which boots while the rest is prepared")
        return stage

    def _hospital(self, federation: Federation, stage: Stage, name: str, folder: Path) -> NodeHome:
        home = NodeHome.create(folder / "home", federation.kit(PartyId(name)))
        home.settings_path.write_text(_POLICY, encoding="utf-8")
        write_csv(hospitals()[name], folder / "heart.csv")
        registry = Registry(home.registry_path)
        try:
            registry.add(
                folder / "heart.csv",
                name="heart-disease",
                tags=TAGS,
                description=f"UCI heart disease, {NAMES[name]}, prepared as by FLamby",
            )
        finally:
            registry.close()
        with self._interrupts.held():
            stage.start_agent(home)
        return home

    def _enter(self, stage: Stage, federation: Federation, folder: Path) -> Place:
        from researcher.home import Home

        Home.init(folder, federation.kit(PartyId(RESEARCHER)))
        with self._interrupts.held():
            place = stage.enter(folder)
            self._cleanup.callback(place.close)
        return place

    def _train(self, place: Place, stage: Stage) -> Experiment[HeartPlan]:
        from deploy.demo.plan import HeartPlan
        from researcher import Experiment, FedAverage

        with self._interrupts.held():
            experiment = Experiment(
                tags=TAGS,
                training_plan_class=HeartPlan,
                training_args=TRAINING_ARGS,
                round_limit=self._options.rounds,
                aggregator=FedAverage(),
                federation=place,
                observers=self._screen.observers(),
                name="heart",
            )
            self._cleanup.callback(experiment.close)
        stage.watch(experiment.cancel)
        try:
            experiment.run()
        except ExperimentCancelledError:
            stage.check()  # says who ended
            raise
        return experiment

    def _results(
        self, experiment: Experiment[HeartPlan], kind: BrokerKind, approved: str, ready_s: float
    ) -> Results:
        plan, history = experiment.training_plan(), experiment.history()
        plan.export_model(self._options.out / MODEL)
        first, last = history[0], history[-1]
        return Results(
            broker=kind,
            rounds=[_facts(record) for record in history.training],
            validated={name: node.metrics.get("global_accuracy") for name, node in last.nodes.items()},
            model=_linear(plan.get_model_params()),
            plan_hash=approved,
            clockings=Clockings(
                ready_s=ready_s,
                first_round_opened_s=self._since_launch(first.opened_at),
                first_round_closed_s=self._since_launch(first.closed_at or first.opened_at),
                total_s=self._since_launch(time.time()),
            ),
        )

    def _since_launch(self, unix_time: float) -> float:
        return unix_time - self._launched_at


def _federation(folder: Path) -> Federation:
    federation = Federation.create(folder, "demo")
    federation.add(RESEARCHER, "researcher")
    for name in NAMES:
        federation.add(name, "node")
    return federation


def _approve(homes: Iterable[NodeHome]) -> str:
    """Approve the plan at each node and return its hash."""
    from deploy.demo.plan import HeartPlan

    source = plan_source(HeartPlan)
    for home in homes:
        approvals = Approvals(home.registry_path)
        try:
            approvals.approve_source(
                source, name=HeartPlan.__name__, by="the demo", note="approved by the demo alone"
            )
        finally:
            approvals.close()
    return plan_hash(source)


def _facts(record: RoundRecord) -> RoundFacts:
    """Return what is kept of a round."""
    return RoundFacts(
        duration_s=record.duration_s or 0.0,
        losses={name: node.loss for name, node in record.nodes.items()},
        samples={name: node.samples_train for name, node in record.nodes.items()},
    )


def _linear(parameters: Mapping[str, Any]) -> Linear:
    """Return the trained model as the baselines have theirs."""
    weights = np.asarray(parameters["weight"], dtype=np.float64).reshape(-1)
    return Linear(weights=weights, intercept=float(parameters["bias"]))
