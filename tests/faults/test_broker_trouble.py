"""A broker that pauses, refuses, restarts or forgets a party holds an experiment up and says so; then it goes on by itself.

Everything is real and a process of its own. The bulk queues are smaller than a model, so every round meets full ones.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

import pytest

from common.settings import Timeouts
from deploy.federation import QueueLimits
from deploy.membership import synchronise
from node.process import report
from tests.faults import aftermath
from tests.faults.ordeal import Ordeal, Told
from tests.faults.researcher_process import Script
from tests.faults.storms import hospitals
from tests.support.broker import ctl

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

WIDTH = 240_000
"""Makes a model of 10 MB: ten chunks."""
LIMITS = QueueLimits(bulk_bytes=2**21)
SOON = Timeouts(reconnect_first_s=0.2, reconnect_max_s=1.0, reply_s=2.0)
ROUNDS = 2

Trouble = Callable[[], None]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with hospitals(folder, timeouts=SOON, limits=LIMITS) as world:
        yield world.start()
        world.leave()
        aftermath.check_queues(world)
        aftermath.check_files(world)
    aftermath.check_processes(folder)


def run(world, name: str, **troubles: Trouble) -> list[str]:
    """Run an experiment and return its models.

    Args:
        world: Where.
        name: Its name.
        troubles: What to do once when the script first says this, of all rounds or of north's training.
    """
    left = dict(troubles)

    def watch(told: Told) -> None:
        if told.node in (None, "north") and (trouble := left.pop(told.kind, None)) is not None:
            trouble()

    script = Script(name, ("north", "south"), ROUNDS, steps=8, pause_s=0.1 if troubles else 0.0, width=WIDTH)
    ordeal = Ordeal(world, script, random.Random(1), watch=watch).run()  # noqa: S311  chooses nothing here
    assert {} == left
    assert 0 == ordeal.failures
    aftermath.check_ledger(world, name)
    aftermath.check_journals(world)
    return aftermath.models(world, name)


@pytest.fixture(scope="module")
def calm(world):
    return run(world, "calm")


def status(world, node):
    return report(world.homes[node]).status


def test_an_experiment_waits_while_the_broker_is_short_of_memory(world, calm):
    def trouble():
        ctl(world.broker.endpoint, "set_vm_memory_high_watermark", "absolute", "10MB")
        told = "the broker takes no messages for now: low on memory"
        aftermath.wait_until(lambda: status(world, "north").detail == told, "north tells why it pauses")
        assert status(world, "north").connected
        ctl(world.broker.endpoint, "set_vm_memory_high_watermark", "0.5")

    assert calm == run(world, "alarm", NodeProgress=trouble)


def test_a_node_whose_queue_is_full_gets_the_model_when_it_reads_again(world, calm):
    """South does not read while the model goes out; what its queue refused it asks for later."""
    pid = world.agents["south"].pid
    log = world.researcher_home / "researcher.jsonl"
    before = log.read_text().count("queue full")
    try:
        models = run(
            world,
            "full",
            RoundOpened=lambda: os.kill(pid, signal.SIGSTOP),
            NodeProgress=lambda: os.kill(pid, signal.SIGCONT),
        )
    finally:
        os.kill(pid, signal.SIGCONT)

    assert calm == models
    assert log.read_text().count("queue full") > before


def test_an_experiment_goes_on_after_the_broker_was_stopped_and_started(world, calm):
    def trouble():
        world.broker.stop()
        aftermath.wait_until(lambda: "WRN-201" in status(world, "north").detail, "north tells what it misses")
        world.broker.start()

    assert calm == run(world, "restart", NodeProgress=trouble)


def test_a_node_whose_user_was_deleted_says_so_and_comes_back_with_it(world, calm):
    def trouble():
        admin = world.broker.endpoint.admin(world.federation.settings.vhost)
        admin._call("DELETE", "users", "north")
        aftermath.wait_until(
            lambda: "WRN-202" in status(world, "north").detail, "north tells that it is refused"
        )
        assert not status(world, "north").connected
        synchronise(world.federation, world.broker.endpoint)

    assert calm == run(world, "deleted", NodeProgress=trouble)
