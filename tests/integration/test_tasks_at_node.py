"""The people of a node see what it works on, with its losses, and stop what they do not want."""

import json
import threading

import pytest
from typer.testing import CliRunner

from common.audit.record import Action
from common.audit.verify import read_records
from common.errors import NoSuchTaskError
from common.ids import RunId, new_uuid
from common.messages import LossPoint, PingReply, PingRequest, RunEnd, TaskFailed, TaskProgress
from common.settings import Timeouts
from common.training_args import TrainingArgs
from node.agent import build
from node.cli import app
from node.curve import POINTS, Curve, thinned
from node.steward.tasks import Tasks
from node.stops import StopWishes
from node.task_events import Phase
from tests.support.nodes import ADD_ONE
from tests.support.trial import LAB, NORTH, Trial

SLOW = ADD_ONE.replace("return -sum", "import threading; threading.Event().wait(0.05)\n        return -sum")


def test_a_running_task_is_seen_with_its_losses_and_stopped_by_its_node(tmp_path):
    trial = Trial(tmp_path, plans=(SLOW,), timeouts=Timeouts(presence_s=0.5))
    tasks = Tasks(trial.home, "anna")
    try:
        trial.send(trial.request(source=SLOW, training_args=TrainingArgs(num_updates=10_000, log_interval=1)))
        while not (running := tasks.open()) or not running[0].losses:
            trial.lab.take(TaskProgress)
        assert trial.task == tasks.cancel(trial.task[-8:])
        failed = trial.answer(TaskFailed).message
        (one,) = tasks.past(5).tasks
    finally:
        trial.close()
    shown = CliRunner().invoke(app, ["task", "list", str(trial.home.path), "--past", "5", "--json"])
    (past,) = json.loads(shown.stdout)["past"]

    assert (Phase.RUNNING, LAB, "AddOne", 0) == (
        running[0].phase,
        running[0].researcher,
        running[0].plan_name,
        running[0].round,
    )
    assert ("WRN-605", True, NORTH) == (failed.code, failed.final, failed.sender)
    assert f"cancelled by {NORTH}" in failed.text
    assert (LAB, "WRN-605") == (one.asked.actor, one.ended.code)
    assert running[0].losses == one.losses[: len(running[0].losses)]
    assert (1, 0.0) == (one.losses[0].iteration, one.losses[0].loss)
    assert (trial.task, "WRN-605") == (past["ended"]["task_id"], past["ended"]["code"])
    cancelled = [one for one in read_records(trial.home.audit_path) if one.action is Action.TASKS_CANCELLED]
    assert [("person anna", trial.task)] == [(one.actor, one.task_id) for one in cancelled]
    wishes = StopWishes(trial.home.registry_path)
    assert () == wishes.open()
    wishes.close()
    with pytest.raises(NoSuchTaskError):
        tasks.cancel(trial.task)


def point(iteration):
    return LossPoint(iteration=iteration, epoch=0, samples=iteration, loss=1.0)


@pytest.mark.parametrize("count", [0, 1, POINTS, POINTS + 1, 5 * POINTS + 3])
def test_few_points_stay_and_always_the_last(count):
    points = tuple(map(point, range(count)))
    kept = thinned(points)

    assert points[-1:] == kept[-1:]
    assert set(kept) <= set(points)
    assert (kept == points) == (count <= POINTS)
    assert min(count, POINTS // 2) <= len(kept) <= POINTS


def test_a_curve_is_drawn_once_a_second():
    curve = Curve()

    assert (point(1),) == curve.drawn([point(1)], 10.0)
    assert None is curve.drawn([point(2)], 10.5)
    assert (point(1), point(2), point(3)) == curve.drawn([point(3)], 11.0)


def test_a_run_that_ends_before_its_task_has_begun_leaves_the_node_as_it_was(tmp_path, monkeypatch):
    trial = Trial(tmp_path)
    request = trial.request(run=RunId(new_uuid()))
    end = RunEnd(sender=LAB, recipients=(NORTH,), experiment_id=trial.experiment, run_id=request.run_id)
    trial.node.stop()
    trial.send(request)
    trial.lab.mailbox.send(end).result(20)
    agent, both_are_there = build(trial.home, transport=trial.broker.transport(NORTH)), threading.Event()
    put = agent._inbox.put

    def watched(one):
        put(one)
        if isinstance(getattr(one, "message", None), RunEnd):
            both_are_there.set()

    monkeypatch.setattr(agent._inbox, "put", watched)
    thread = threading.Thread(target=agent.run, kwargs={"on_started": lambda: both_are_there.wait(20)})
    thread.start()
    try:
        known = trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply)
    finally:
        agent.stop()
        thread.join(20)
        trial.lab.close()

    assert both_are_there.is_set()
    assert (0, 0) == (known.info.running, known.info.waiting)
    assert not (trial.home.path / "work" / request.run_id).exists()
