"""Metrics are bounded, whatever is told; a node tells of itself only what its policy allows."""

import os
import time

from prometheus_client import CollectorRegistry

from common import metrics
from common.ids import PartyId, derived_uuid
from common.messages import LossPoint, NodePresence, TaskTimings, Validation
from node.figures import GPU_MEMORY, TRAINING_LOSS, TRAINING_SECONDS, Figures, note_device, note_losses
from researcher.directory import NodeStatus
from researcher.history import NodeRecord
from researcher.monitoring import RunStarted, UpdateArrived
from researcher.monitoring.families import FAMILIES, NODE_FAMILIES
from researcher.monitoring.figures import EXPERIMENTS, METRICS, ExperimentFigures
from researcher.monitoring.telemetry import NodesCollector
from tests.support.fake_node import INFO
from tests.support.tasks import done
from tests.support.trial import Trial

NODES = tuple(PartyId(f"node-{number}") for number in range(5))
DONE = done(derived_uuid("task"))
TIMINGS = TaskTimings(received_at=0, waited_s=1, loaded_s=1, trained_s=1, validated_s=1, saved_s=1)


def run(figures, number):
    experiment = derived_uuid("experiment", str(number))
    figures.note(experiment, RunStarted(experiment, f"name {number}", derived_uuid("run"), NODES, 1, 9))
    for node in NODES:
        told = {f"metric {number} {one}": 0.5 for one in range(100)}
        record = NodeRecord(
            node,
            "accepted",
            1,
            update_bytes=7,
            losses=(LossPoint(iteration=1, epoch=1, samples=1, loss=0.25),),
            validations=(Validation(on="global", samples=1, metrics=told),),
            timings=TIMINGS,
        )
        figures.note(experiment, UpdateArrived(1, record))
    return experiment


def series(collector, name):
    (family,) = (one for one in collector.collect() if one.name == name)
    return family.samples


def test_a_hundred_experiments_with_a_hundred_metrics_each_have_a_bounded_number_of_series():
    figures = ExperimentFigures()
    experiments = [run(figures, number) for number in range(100)]

    assert EXPERIMENTS * METRICS * len(NODES) == len(series(figures, "warren_node_metric"))
    assert set(experiments[-EXPERIMENTS:]) == {
        one.labels["experiment"] for one in series(figures, "warren_experiment_info")
    }
    assert sum(len(family.samples) for family in figures.collect()) < EXPERIMENTS * (METRICS + 20) * len(
        NODES
    )


def test_an_experiment_that_goes_on_is_not_forgotten_for_newer_ones():
    figures = ExperimentFigures()
    first = run(figures, 0)
    for number in range(1, EXPERIMENTS + 5):
        run(figures, number)
        run(figures, 0)

    assert first in {one.labels["experiment"] for one in series(figures, "warren_experiment_info")}


def test_a_node_shows_the_losses_of_its_newest_experiments_only():
    for number in range(50):
        note_losses(
            derived_uuid("experiment", str(number)), [LossPoint(iteration=1, epoch=1, samples=1, loss=1.0)]
        )
    shown = [one.labels["experiment"] for family in TRAINING_LOSS.collect() for one in family.samples]

    assert [derived_uuid("experiment", str(number)) for number in range(34, 50)] == shown


def test_a_gpu_is_shown_where_tasks_had_one_and_nowhere_else():
    spent = metrics.values(TRAINING_SECONDS, "device")
    plain, fast = derived_uuid("experiment", "on the cpu"), derived_uuid("experiment", "on a gpu")
    note_device(plain, DONE)
    note_device(fast, DONE.model_copy(update={"device": "gpu", "gpu_bytes": 4096, "trained_s": 2.5}))
    more = metrics.values(TRAINING_SECONDS, "device")
    shown = metrics.values(GPU_MEMORY, "experiment")

    assert {"cpu": 1.0, "gpu": 2.5} == {device: more[device] - spent.get(device, 0.0) for device in more}
    assert (None, 4096) == (shown.get(plain), shown[fast])


def test_a_researcher_shows_how_long_nodes_trained_by_device():
    figures, (north, *_), experiment = ExperimentFigures(), NODES, derived_uuid("experiment")
    figures.note(experiment, RunStarted(experiment, "heart", derived_uuid("run"), NODES, 1, 9))
    for device in ("cpu", "gpu", "gpu"):
        record = NodeRecord(north, "accepted", 1, timings=TIMINGS, device=device)
        figures.note(experiment, UpdateArrived(1, record))

    told = {tuple(one.labels.values()): one.value for one in series(figures, "warren_node_training_seconds")}
    assert {(north, "cpu"): 1.0, (north, "gpu"): 2.0} == told


def test_every_family_is_exported_once():
    registry = CollectorRegistry()
    registry.register(ExperimentFigures())
    registry.register(NodesCollector(dict))

    assert len({one.name for one in (*FAMILIES, *NODE_FAMILIES)}) == len([*FAMILIES, *NODE_FAMILIES])
    assert {one.name for one in registry.collect()} == {one.name for one in (*FAMILIES, *NODE_FAMILIES)}


def test_a_node_that_keeps_its_figures_to_itself_is_still_seen():
    status = NodeStatus(PartyId("north"), online=True, since=1.0, last_seen=2.0, info=INFO)
    shown = NodesCollector(lambda: {status.node: status})

    assert [1.0] == [one.value for one in series(shown, "warren_node_up")]
    assert [] == series(shown, "warren_node_cpu_seconds")


def test_a_node_tells_its_figures_unless_its_policy_forbids_it(tmp_path):
    for settings, told in (("", True), ("telemetry = false\n", False)):
        folder = tmp_path / str(told)
        folder.mkdir()
        trial = Trial(folder, settings=settings)
        try:
            presence = trial.lab.take(NodePresence).message
        finally:
            trial.close()
        assert told == (presence.figures is not None)
        if told:
            assert presence.figures.certificate_expires_at > time.time()
            assert presence.figures.disk_free_bytes > 0


def test_what_a_plan_can_change_at_will_is_told_in_coarse_steps():
    phases = {"waiting": 0, "running": 0, "unsent": 0}
    figures = Figures(expires_at=time.time(), disk_floor_bytes=1)
    told = figures.measure(workers=(os.getpid(),), free_bytes=10**10 + 1, phases=phases)

    assert told.disk_free_bytes % 2**26 == told.worker_resident_bytes % 2**26 == told.worker_cpu_s % 1 == 0
    assert 10**10 - 2**26 < told.disk_free_bytes <= 10**10


def test_counters_are_summed_by_a_label():
    metrics.MESSAGES.labels("control", "sent").inc(0)
    found = metrics.values(metrics.MESSAGES, "lane")

    assert "control" in found
    assert sum(found.values()) == metrics.values(metrics.MESSAGES)[""]
