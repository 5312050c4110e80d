"""Give every test that asks for it a real RabbitMQ, started once."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import hypothesis
import pytest

from common.errors import BrokerMissingError
from deploy.broker import PrivateBroker, find_server
from deploy.federation import Federation, QueueLimits
from node.worker.lean_torch import spare_compiler
from tests.support.broker import AmqpWorld, RunningFederation, populate
from tests.support.forked_processes import fork_server, forked_for_all, forked_processes  # noqa: F401 - fixtures

pytest.register_assert_rewrite("tests.faults.aftermath")  # what failed there shows its values, too

hypothesis.settings.register_profile("warren", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("warren")

# Hundreds of processes import the packages: the first one compiles them for all, whatever this machine is told.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

BROKER_FIXTURES = {"broker", "make_federation", "amqp_world"}

MakeFederation = Callable[..., RunningFederation]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if BROKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.broker)
    _begin_long_ones_first(items, getattr(config, "workerinput", {"workercount": 1})["workercount"])


def _begin_long_ones_first(items: list[pytest.Item], processes: int) -> None:
    """Deal the long tests out to the processes, which begin with a block of tests each: nobody waits for one at the end."""
    long = sorted((item for item in items if item.get_closest_marker("long")), key=lambda item: item.nodeid)
    rest = [item for item in items if item.get_closest_marker("long") is None]
    size = len(items) // processes
    dealt = [long[number::processes] for number in range(processes)]
    blocks = []
    for mine in dealt:
        count = max(0, size - len(mine))
        blocks += [*mine, *rest[:count]]
        del rest[:count]
    items[:] = blocks + rest


def pytest_collection_finish() -> None:
    """Do as workers do: the first step of an optimizer loads no compiler."""
    if "torch" in sys.modules:
        spare_compiler()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail what needs RabbitMQ where that is missing: a skip would pass for a promise that was kept."""
    if item.get_closest_marker("broker") is None:
        return
    try:
        find_server()
    except BrokerMissingError as error:
        pytest.fail(f"{error}; `make rabbitmq` installs it", pytrace=False)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFederation]:
    """A running federation of researchers alice and bob and nodes north, south, east and west, shared by all tests."""
    federation = Federation.create(tmp_path_factory.mktemp("federation") / "shared", "shared")
    populate(federation)
    with PrivateBroker(federation, disposable=True) as private:
        yield RunningFederation(federation, private.endpoint)


_NUMBERS = itertools.count(1)


@pytest.fixture
def make_federation(
    broker: RunningFederation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeFederation]:
    """A function that makes another federation on the same broker, which nobody else uses; gone after the test.

    Call it with `researchers=`, `nodes=` or `limits=`; see `RunningFederation.make`.
    """
    with ExitStack() as made:

        def make(**options: object) -> RunningFederation:
            name = f"trial-{next(_NUMBERS)}"
            path = tmp_path_factory.mktemp(name) / "federation"
            running = RunningFederation.make(path, name, broker, **options)
            made.callback(running.admin.remove_vhost)
            return running

        yield make


@pytest.fixture
def amqp_world(make_federation: MakeFederation) -> Iterator[AmqpWorld]:
    """The real side of the transport contract: researcher lab, nodes alpha and beta, small queues."""
    limits = QueueLimits(control_bytes=4 * 2**20, bulk_bytes=8 * 2**20, telemetry_messages=50)
    world = AmqpWorld(make_federation(researchers=("lab",), nodes=("alpha", "beta"), limits=limits))
    yield world
    world.close()
