"""A real node agent with a real worker, asked by hand."""

import queue
import time

import pytest

from common.ids import new_uuid
from common.limits import INLINE_BYTES
from common.messages import (
    Chunk,
    ListReply,
    ListRequest,
    NodePresence,
    PingReply,
    PingRequest,
    PlanApprovalReply,
    PlanApprovalRequest,
    PlanState,
    PlanStatusReply,
    PlanStatusRequest,
    RunEnd,
    TaskCancel,
    TaskFailed,
    TaskProgress,
    TaskState,
    TrainReply,
)
from common.payload.store import PayloadStore
from common.payload.tensors import load_tensors
from common.settings import Timeouts
from common.training_plans.source import plan_hash
from tests.support.nodes import ADD_ONE
from tests.support.trial import LAB, NORTH, Trial

torch = pytest.importorskip("torch")
HANG = ADD_ONE.replace("return -sum", "import threading; threading.Event().wait()\n        return -sum")
BROKEN = ADD_ONE.replace("return -sum", "raise ValueError('patient 4711')\n        return -sum")


@pytest.fixture
def trial(tmp_path):
    one = Trial(tmp_path, plans=(ADD_ONE, HANG, BROKEN))
    yield one
    one.close()


def test_a_node_says_who_it_is_and_what_data_it_has_but_no_path_and_no_value(trial):
    listed = trial.lab.ask(ListRequest(sender=LAB, recipients=(NORTH,)), ListReply)
    known = trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply)

    assert ["trial"] == [dataset.name for dataset in listed.datasets]
    assert (16, 2) == listed.datasets[0].shape
    assert ["x", "y"] == [column.name for column in listed.datasets[0].columns]
    assert str(trial.tmp_path) not in listed.model_dump_json()
    assert known.info.plan_approval


def test_a_node_announces_itself_and_says_when_it_leaves(trial):
    assert not trial.lab.take(NodePresence).message.leaving

    trial.node.agent.stop()

    while not trial.lab.take(NodePresence).message.leaving:
        pass


def test_an_approved_plan_trains_and_its_update_comes_back(trial, tmp_path):
    request = trial.request()

    trial.send(request)
    mail = trial.answer()

    update = tmp_path / "update"
    update.write_bytes(mail.payload)
    assert {"weight": [[1.0]], "bias": [1.0]} == {
        name: one.tolist() for name, one in load_tensors(update).items()
    }
    assert request.model.sha256 == mail.message.base
    assert 8 == mail.message.samples_seen
    assert 16 == mail.message.samples_train


def test_a_model_too_large_to_ride_inline_goes_and_comes_in_chunks(trial):
    request = trial.request(features=3 * INLINE_BYTES)
    arrived = PayloadStore(trial.tmp_path / "arrived")

    trial.send(request)
    digests, reply = set(), None
    while reply is None or reply.update.sha256 not in digests:  # the lanes may overtake each other
        mail = trial.lab.take((Chunk, TrainReply, TaskProgress))
        if isinstance(mail.message, TrainReply):
            reply = mail.message
        elif isinstance(mail.message, Chunk) and arrived.accept(mail.message, mail.payload):
            digests.add(mail.message.manifest.sha256)

    assert not reply.update.inline
    assert {1.0} == set(load_tensors(arrived.path(reply.update.sha256))["weight"].flatten().tolist())


def test_the_same_request_twice_is_trained_once_and_answered_twice(trial):
    request = trial.request()
    trial.send(request)
    first = trial.answer().message
    trial.send(request)

    assert first == trial.answer().message


def test_a_restarted_node_answers_a_known_task_without_training_again(trial):
    request = trial.request()
    trial.send(request)
    first = trial.answer().message
    trial.restart()
    trial.send(request)

    assert first == trial.answer().message


def test_a_task_that_was_running_when_the_agent_stopped_is_done_by_the_next_one(trial):
    request = trial.request(source=HANG)
    trial.send(request)
    trial.lab.take(TaskProgress)
    trial.restart()

    assert 1 == trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply).info.running


def test_a_task_is_told_of_however_silent_its_training_is(tmp_path):
    impatient = Timeouts(progress_s=2.0, presence_s=0.5)
    trial = Trial(tmp_path, plans=(HANG,), timeouts=impatient)
    try:
        trial.send(trial.request(source=HANG))
        heard = [trial.lab.take(TaskProgress).message for _ in range(6)]
    finally:
        trial.close()

    assert {TaskState.RUNNING} == {one.state for one in heard[1:]}
    assert 1 == len({one.task_id for one in heard})


def test_a_plan_that_nobody_approved_does_not_run(trial):
    source = ADD_ONE + "\n# changed\n"

    trial.send(trial.request(source=source))

    failed = trial.answer(TaskFailed).message
    assert "WRN-501" == failed.code
    assert failed.final


def test_a_plan_is_shown_to_the_people_of_the_node_and_its_state_can_be_asked(trial):
    source = ADD_ONE + "\n# another plan\n"
    request = PlanApprovalRequest(
        sender=LAB,
        recipients=(NORTH,),
        plan_name="AddOne",
        plan_hash=plan_hash(source),
        source=source,
        note="please",
    )
    status = PlanStatusRequest(sender=LAB, recipients=(NORTH,), plan_hash=plan_hash(source))

    assert PlanState.UNKNOWN is trial.lab.ask(status, PlanStatusReply).state
    assert PlanState.PENDING is trial.lab.ask(request, PlanApprovalReply).state
    assert PlanState.PENDING is trial.lab.ask(status, PlanStatusReply).state


def test_a_source_that_does_not_have_its_announced_hash_is_refused(trial):
    trial.send(trial.request(plan_hash=plan_hash(BROKEN)))

    assert "WRN-503" == trial.answer(TaskFailed).message.code


def test_an_error_of_the_plan_comes_back_with_its_line_and_without_its_text(trial):
    trial.send(trial.request(source=BROKEN))

    failed = trial.answer(TaskFailed).message
    line = 1 + BROKEN.splitlines().index("        raise ValueError('patient 4711')")
    assert ("WRN-504", line) == (failed.code, failed.plan_line)
    assert "4711" not in failed.model_dump_json()


def test_a_data_set_that_is_gone_is_named_without_its_path(trial):
    request = trial.request()
    (trial.tmp_path / "north" / "table.csv").unlink()

    trial.send(request)

    failed = trial.answer(TaskFailed).message
    assert "WRN-402" == failed.code
    assert "table" not in failed.text


def test_a_data_set_that_was_never_there_is_refused(trial):
    trial.send(trial.request(dataset=new_uuid()))

    assert "WRN-607" == trial.answer(TaskFailed).message.code


def test_a_model_that_does_not_fit_the_plan_is_refused(trial):
    trial.send(trial.request(model_args={"features": 3}))

    assert "WRN-705" == trial.answer(TaskFailed).message.code


def test_a_request_after_its_deadline_is_refused(trial):
    trial.send(trial.request(deadline=time.time() - 60))

    assert "WRN-603" == trial.answer(TaskFailed).message.code


def test_a_running_task_is_cancelled_within_two_seconds(trial):
    request = trial.request(source=HANG)
    trial.send(request)
    trial.lab.take(TaskProgress)
    asked = time.monotonic()
    cancel = TaskCancel(
        sender=LAB,
        recipients=(NORTH,),
        experiment_id=trial.experiment,
        run_id=trial.run,
        tasks=(request.assignments[0].task_id,),
    )

    failed = trial.lab.ask(cancel, TaskFailed)

    assert "WRN-605" == failed.code
    assert time.monotonic() - asked < 2


def test_short_requests_are_answered_while_training_runs(trial):
    trial.send(trial.request(source=HANG))
    trial.lab.take(TaskProgress)

    assert 1 == trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply).info.running


def test_a_worker_that_is_killed_is_reported_as_worth_another_try(trial):
    trial.send(trial.request(source=HANG))
    trial.lab.take(TaskProgress)
    trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply)  # by now the worker was spawned
    for worker in trial.node.agent._pool._workers.values():
        worker._process.kill()

    failed = trial.answer(TaskFailed).message

    assert "WRN-601" == failed.code
    assert not failed.final


def test_work_of_a_run_that_ended_never_runs(trial):
    request = trial.request()
    end = RunEnd(sender=LAB, recipients=(NORTH,), experiment_id=trial.experiment, run_id=trial.run)
    trial.lab.mailbox.send(end).result(20)

    trial.send(request)

    assert "WRN-604" == trial.answer(TaskFailed).message.code


def test_the_end_of_a_run_frees_its_worker_and_its_scratch_folder(trial):
    trial.send(trial.request())
    trial.answer()
    end = RunEnd(sender=LAB, recipients=(NORTH,), experiment_id=trial.experiment, run_id=trial.run)

    trial.lab.mailbox.send(end).result(20)
    trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply)

    assert {} == trial.node.agent._pool._workers
    assert [] == list((trial.home.path / "work").iterdir())
    assert [] == list((trial.home.path / "payloads").iterdir())


def test_a_message_that_is_not_for_a_node_is_set_aside(trial):
    trial.lab.mailbox.send(NodePresence(sender=LAB, recipients=(NORTH,), info=trial.node.agent.info()))
    trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply)

    with pytest.raises(queue.Empty):
        trial.lab.take(TrainReply, deadline_s=0.1)
