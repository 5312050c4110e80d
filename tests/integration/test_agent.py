"""A real node agent with a real worker, asked by hand."""

import os
import queue
import threading
import time

import pytest

from common.audit.record import Action
from common.audit.verify import read_records, verify
from common.errors import AuditBrokenError
from common.ids import ExperimentId, RunId, new_uuid
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
from common.training_args import TrainingArgs
from common.training_plans.source import plan_hash
from node.admission import STALE_AFTER_S
from node.agent import build
from node.approval import PENDING_PLANS, Approvals
from node.argument_limits import parse_limits
from node.hours import DAYS
from tests.faults.aftermath import wait_until
from tests.support.nodes import ADD_ONE, DEADLINE_S
from tests.support.quick_workers import quick_workers  # noqa: F401 - a fixture
from tests.support.trial import LAB, NORTH, Trial

torch = pytest.importorskip("torch")
HANG = ADD_ONE.replace("return -sum", "import threading; threading.Event().wait()\n        return -sum")
BROKEN = ADD_ONE.replace("return -sum", "raise ValueError('patient 4711')\n        return -sum")
TELLTALE = f"""{ADD_ONE}
    def testing_step(self, data, target):
        return {{"".join(("patient ", "4711")): 0.5}}
"""


@pytest.fixture
def trial(tmp_path):
    one = Trial(tmp_path, plans=(ADD_ONE, HANG, BROKEN, TELLTALE))
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


@pytest.mark.usefixtures("quick_workers")
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


@pytest.mark.usefixtures("quick_workers")
def test_the_same_request_twice_is_trained_once_and_answered_twice(trial):
    request = trial.request()
    trial.send(request)
    first = trial.answer().message
    trial.send(request)

    assert first == trial.answer().message


@pytest.mark.usefixtures("quick_workers")
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


@pytest.mark.usefixtures("quick_workers")
def test_a_metric_whose_name_the_plan_does_not_spell_out_stays_with_its_update_at_the_node(trial):
    arguments = TrainingArgs(num_updates=1, test_ratio=0.5, test_on_global_updates=True)
    trial.send(trial.request(source=TELLTALE, training_args=arguments))

    failed = trial.answer(TaskFailed).message
    assert "WRN-610" == failed.code
    assert "4711" not in failed.model_dump_json()
    trial.node.stop()
    assert Action.UPDATE_RELEASED not in {one.action for one in read_records(trial.home.audit_path)}


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


@pytest.mark.usefixtures("quick_workers")
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


@pytest.mark.usefixtures("quick_workers")
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


# What people decided, and the audit log


def decide(trial, state, *limits):
    approvals = Approvals(trial.home.registry_path)
    approvals.decide(plan_hash(ADD_ONE), state, by="the test", limits=parse_limits(limits))
    approvals.close()


@pytest.mark.usefixtures("quick_workers")
def test_an_approval_binds_the_arguments_and_says_so(trial):
    decide(trial, PlanState.APPROVED, "num_updates<=1", "model_args.features<=4")
    trial.send(trial.request())
    assert trial.answer().message.update is not None

    trial.send(trial.request(round_=1, training_args=TrainingArgs(num_updates=2)))
    refused = trial.answer(TaskFailed).message
    known = trial.lab.ask(
        PlanStatusRequest(sender=LAB, recipients=(NORTH,), plan_hash=plan_hash(ADD_ONE)), PlanStatusReply
    )

    assert ("WRN-508", True) == (refused.code, refused.final)
    assert "num_updates<=1" in refused.text
    assert ("num_updates<=1", "model_args.features<=4") == known.limits


def test_a_plan_that_is_rejected_while_its_task_waits_does_not_run(trial):
    trial.send(trial.request(source=HANG))
    trial.lab.take(TaskProgress)
    waiting = trial.request(round_=0, run=RunId(new_uuid()), experiment_id=ExperimentId(new_uuid()))
    trial.send(waiting)
    while trial.node.agent.info().waiting < 1:
        trial.lab.take((TaskProgress, NodePresence))
    decide(trial, PlanState.REJECTED)

    trial.lab.mailbox.send(
        RunEnd(sender=LAB, recipients=(NORTH,), experiment_id=trial.experiment, run_id=trial.run)
    ).result(20)
    refused = trial.answer(TaskFailed).message

    assert ("WRN-501", waiting.assignments[0].task_id) == (refused.code, refused.task_id)


def test_a_request_that_was_under_way_for_too_long_is_not_done_whatever_its_deadline(trial):
    long_ago = time.time() - STALE_AFTER_S - 60

    trial.send(trial.request(created_at=long_ago, deadline=time.time() + 3600))

    assert "WRN-603" == trial.answer(TaskFailed).message.code


def test_a_request_from_the_future_is_refused(trial):
    trial.send(trial.request(created_at=time.time() + 3 * 86400))

    refused = trial.answer(TaskFailed).message
    assert "WRN-606" == refused.code
    assert "clock" in refused.text


@pytest.mark.usefixtures("quick_workers")
def test_a_request_that_comes_again_after_its_task_was_forgotten_is_not_done_again(trial):
    first = trial.request()
    task = trial.task
    trial.send(first)
    trial.answer()
    trial.send(trial.request(round_=1))  # so the node forgets the round before
    trial.answer()

    trial.task = first.assignments[0].task_id
    trial.send(first)
    refusal = trial.lab.take(TaskFailed, of=task).message
    trial.restart()
    trial.send(first)

    assert ["WRN-604", "WRN-604"] == [refusal.code, trial.lab.take(TaskFailed, of=task).message.code]


@pytest.mark.usefixtures("quick_workers")
def test_a_request_of_a_run_that_ended_is_not_done_again(trial):
    first = trial.request()
    trial.send(first)
    trial.answer()
    end = RunEnd(sender=LAB, recipients=(NORTH,), experiment_id=trial.experiment, run_id=trial.run)
    for _ in range(2):  # the second time it changes nothing
        trial.lab.mailbox.send(end).result(20)

    trial.send(trial.request(round_=1))

    assert "WRN-604" == trial.answer(TaskFailed).message.code


def test_an_approval_that_is_asked_for_again_after_it_was_refused_stays_refused(trial):
    decide(trial, PlanState.REJECTED)
    request = PlanApprovalRequest(
        sender=LAB, recipients=(NORTH,), plan_name="AddOne", plan_hash=plan_hash(ADD_ONE), source=ADD_ONE
    )

    answers = [trial.lab.ask(request, PlanApprovalReply).state for _ in range(2)]

    assert [PlanState.REJECTED] * 2 == answers


def test_a_researcher_cannot_bury_a_node_in_plans(trial):
    def ask(number):
        source = f"{ADD_ONE}# {number}\n"
        request = PlanApprovalRequest(
            sender=LAB,
            recipients=(NORTH,),
            plan_name="AddOne",
            plan_hash=plan_hash(source),
            source=source,
        )
        return trial.lab.ask(request, PlanApprovalReply)

    answers = [ask(number) for number in range(PENDING_PLANS + 1)]

    assert {PlanState.PENDING} == {answer.state for answer in answers[:-1]}
    assert PlanState.UNKNOWN is answers[-1].state
    assert "wait for a decision" in answers[-1].note
    assert PlanState.PENDING is ask(0).state


@pytest.mark.usefixtures("quick_workers")
def test_the_audit_log_says_who_asked_what_and_what_left_but_no_value(trial):
    request = trial.request()
    trial.send(request)
    reply = trial.answer().message
    broken = trial.request(round_=1, source=BROKEN)
    trial.send(broken)
    trial.answer(TaskFailed)
    trial.node.stop()

    found = list(read_records(trial.home.audit_path))

    asked, released, _, failed = [record for record in found if record.task_id is not None]
    assert (Action.TASK_ASKED, "lab", "done") == (asked.action, asked.actor, asked.outcome)
    assert (request.model.sha256, request.model.size_bytes) == (asked.digest, asked.bytes)
    assert (Action.UPDATE_RELEASED, "north", ("lab",)) == (released.action, released.actor, released.parties)
    assert (reply.update.sha256, reply.update.size_bytes) == (released.digest, released.bytes)
    assert plan_hash(ADD_ONE) == asked.plan_hash == released.plan_hash
    assert request.assignments[0].dataset_id == asked.dataset_id == released.dataset_id
    assert (Action.TASK_FAILED, "failed", "WRN-504") == (failed.action, failed.outcome, failed.code)
    actions = [record.action for record in found]
    assert [Action.LOG_BEGUN, Action.AGENT_STARTED, Action.DATASETS_DESCRIBED] == actions[:3]
    assert Action.AGENT_STOPPED is actions[-1]
    assert "4711" not in next(trial.home.audit_path.glob("*.jsonl")).read_text()
    assert len(found) == verify(trial.home.audit_path).records


def asked(trial):
    """Return how often the audit log says that somebody asked for the task."""
    records = read_records(trial.home.audit_path)
    return sum(one.task_id == trial.task and one.action is Action.TASK_ASKED for one in records)


@pytest.mark.usefixtures("quick_workers")
def test_nothing_leaves_and_no_request_is_acked_before_the_disk_has_what_was_done(trial, monkeypatch):
    request, disk, sync = trial.request(), threading.Event(), os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (disk.wait(DEADLINE_S), sync(file)))
    trial.send(request)
    wait_until(lambda: asked(trial), "the task is done and stands in the audit log")
    told = [type(trial.lab.mails.get_nowait().message) for _ in range(trial.lab.mails.qsize())]

    trial.broker.disconnect(NORTH)  # as a power cut would
    trial.broker.reconnect(NORTH)
    disk.set()

    assert TrainReply not in told
    assert trial.answer().message.update is not None
    trial.node.stop()
    assert 2 == asked(trial)


def test_a_request_that_waits_is_acked_in_a_moment(tmp_path):
    closed = DAYS[(time.localtime().tm_wday + 3) % 7]
    trial = Trial(tmp_path, settings=f'working_hours = ["{closed} 00:00-00:01"]\n')
    try:
        trial.send(trial.request())
        link = trial.node.agent._mailbox._transport._link
        wait_until(lambda: asked(trial), "the request stands in the audit log")
        wait_until(lambda: not any(link._consuming.values()), "the request is acked")
    finally:
        trial.close()


def test_a_node_whose_audit_log_lost_its_end_does_not_work(trial):
    trial.node.stop()
    (path,) = trial.home.audit_path.glob("*.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))

    before = path.read_bytes()
    with pytest.raises(AuditBrokenError):
        build(trial.home, transport=trial.broker.transport(NORTH)).run()

    assert before == path.read_bytes()


@pytest.mark.usefixtures("quick_workers")
def test_outside_its_working_hours_a_node_answers_and_lets_tasks_wait(tmp_path):
    now = time.localtime()
    elsewhere = DAYS[(now.tm_wday + 3) % 7]
    trial = Trial(tmp_path, settings=f'working_hours = ["{elsewhere} 00:00-24:00"]\n')
    try:
        trial.send(trial.request())
        info = trial.lab.ask(PingRequest(sender=LAB, recipients=(NORTH,)), PingReply).info
        assert (0, 1) == (info.running, info.waiting)
        trial.home.settings_path.write_text("")
        trial.restart()

        assert 0 == trial.answer().message.round
    finally:
        trial.close()
