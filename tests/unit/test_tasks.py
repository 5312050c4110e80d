"""The machine that decides what happens to each task at a node."""

import dataclasses

import pytest

from common.errors import DigestMismatchError, WorkerDiedError
from common.ids import Digest, ExperimentId, PartyId, RunId, TaskId, derived_uuid
from node.task_events import (
    Abort,
    Begin,
    Failure,
    Forget,
    KeepRun,
    ModelArrived,
    ModelDamaged,
    Phase,
    Refuse,
    ReplyConfirmed,
    Report,
    Retire,
    Run,
    RunEnded,
    RunRecovered,
    Task,
    TaskBroke,
    TaskReceived,
    TaskRecovered,
    TasksCancelled,
    TaskStopped,
    TaskTrained,
    UpdateArrived,
)
from node.tasks import TaskMachine

ALICE, BOB = PartyId("alice"), PartyId("bob")
EXPERIMENT = ExperimentId(derived_uuid("experiment"))
RUN_1, RUN_2 = RunId("00000000-0000-7000-8000-000000000001"), RunId("00000000-0000-7000-8000-000000000002")
NOW = 1000.0


def task(name="t", *, run=RUN_1, round_=0, researcher=ALICE, deadline=None, experiment=EXPERIMENT):
    return Task(
        TaskId(derived_uuid(name)), experiment, run, round_, researcher, Digest("a" * 64), deadline, NOW
    )


@pytest.fixture
def machine():
    return TaskMachine(max_workers=1)


def run_of(one, *, ended=False):
    return Run(one.researcher, one.experiment_id, one.run_id, ended)


def test_a_task_whose_model_is_here_begins_at_once(machine):
    one = task()

    assert [KeepRun(run_of(one)), Begin(one.task_id)] == machine.handle(
        TaskReceived(one, model_here=True), NOW
    )


def test_a_task_waits_for_its_model(machine):
    one = task()

    assert [KeepRun(run_of(one))] == machine.handle(TaskReceived(one, model_here=False), NOW)
    assert [Begin(one.task_id)] == machine.handle(ModelArrived(one.model), NOW)


def test_a_task_whose_model_stays_damaged_is_refused_and_others_go_on(machine):
    one = task()
    other = dataclasses.replace(task("other"), model=Digest("b" * 64))
    machine.handle(TaskReceived(one, model_here=False), NOW)
    machine.handle(TaskReceived(other, model_here=False), NOW)
    failure = Failure.of(DigestMismatchError(expected=one.model, actual=Digest("c" * 64)))

    effects = machine.handle(ModelDamaged(one.model, failure), NOW)

    assert [Refuse(one.task_id, failure), Report(one.task_id)] == effects
    assert [Begin(other.task_id)] == machine.handle(ModelArrived(other.model), NOW)


def test_no_more_tasks_run_than_there_are_workers(machine):
    first, second = task("1"), task("2")
    machine.handle(TaskReceived(first, model_here=True), NOW)

    assert [] == machine.handle(TaskReceived(second, model_here=True), NOW)
    assert [Report(first.task_id), Begin(second.task_id)] == machine.handle(TaskTrained(first.task_id), NOW)


def test_a_trained_task_is_not_trained_again_when_it_is_asked_for_again(machine):
    one = task()
    machine.handle(TaskReceived(one, model_here=True), NOW)
    machine.handle(TaskTrained(one.task_id), NOW)
    machine.handle(ReplyConfirmed(one.task_id), NOW)

    assert [Report(one.task_id)] == machine.handle(TaskReceived(one, model_here=True), NOW)


def test_a_running_task_that_is_asked_for_again_goes_on(machine):
    one = task()
    machine.handle(TaskReceived(one, model_here=True), NOW)

    assert [] == machine.handle(TaskReceived(one, model_here=True), NOW)


def test_a_task_that_came_after_its_deadline_is_refused_and_never_begins(machine):
    one = task(deadline=NOW - 1)

    effects = machine.handle(TaskReceived(one, model_here=True), NOW)

    assert [KeepRun, Refuse, Report] == [type(effect) for effect in effects]
    assert "WRN-603" == effects[1].failure.code


def test_a_task_whose_deadline_passes_while_it_waits_never_begins(machine):
    first, second = task("1"), task("2", deadline=NOW + 5)
    machine.handle(TaskReceived(first, model_here=True), NOW)
    machine.handle(TaskReceived(second, model_here=True), NOW)

    effects = machine.handle(TaskTrained(first.task_id), NOW + 10)

    assert [Report, Refuse, Report] == [type(effect) for effect in effects]


def test_a_task_of_an_older_run_never_begins(machine):
    machine.handle(TaskReceived(task("new", run=RUN_2), model_here=True), NOW)

    effects = machine.handle(TaskReceived(task("old", run=RUN_1), model_here=True), NOW)

    assert "WRN-604" == effects[0].failure.code


def test_a_newer_run_stops_the_work_of_the_older_one(machine):
    old, new = task("old", run=RUN_1), task("new", run=RUN_2)
    machine.handle(TaskReceived(old, model_here=True), NOW)

    effects = machine.handle(TaskReceived(new, model_here=True), NOW)

    assert [
        Abort(old.task_id),
        Forget(old.task_id),
        Retire(RUN_1),
        KeepRun(run_of(new)),
        Begin(new.task_id),
    ] == effects


def test_a_task_of_an_ended_run_never_begins_not_even_after_a_restart(machine):
    one = task()
    machine.handle(RunRecovered(run_of(one, ended=True)), NOW)

    effects = machine.handle(TaskReceived(one, model_here=True), NOW)

    assert "WRN-604" == effects[0].failure.code


def test_a_run_that_ends_before_it_is_known_never_begins(machine):
    one = task()
    machine.handle(RunEnded(run_of(one, ended=True)), NOW)

    assert "WRN-604" == machine.handle(TaskReceived(one, model_here=True), NOW)[0].failure.code


def test_cancelling_stops_a_running_task_and_says_so(machine):
    one = task()
    machine.handle(TaskReceived(one, model_here=True), NOW)

    effects = machine.handle(TasksCancelled(ALICE, (one.task_id,)), NOW)

    assert [Abort, Refuse, Report] == [type(effect) for effect in effects]


def test_a_node_stops_what_is_not_done_and_lets_out_what_is(machine):
    running, waiting, done = task("1"), task("2"), task("3")
    machine.handle(TaskReceived(done, model_here=True), NOW)
    machine.handle(TaskTrained(done.task_id), NOW)
    for one in (running, waiting):
        machine.handle(TaskReceived(one, model_here=True), NOW)

    effects = [machine.handle(TaskStopped(one.task_id, BOB), NOW) for one in (waiting, running, done)]

    assert [[Refuse, Report], [Abort, Refuse, Report], []] == [list(map(type, some)) for some in effects]
    assert ("WRN-605", True) == (effects[0][0].failure.code, effects[0][0].failure.final)


def test_nobody_can_cancel_or_end_or_receipt_the_work_of_another_researcher(machine):
    one = task()
    machine.handle(TaskReceived(one, model_here=True), NOW)

    assert [] == machine.handle(TasksCancelled(BOB, (one.task_id,)), NOW)
    assert [] == machine.handle(UpdateArrived(BOB, (one.task_id,)), NOW)
    assert Abort(one.task_id) not in machine.handle(
        RunEnded(dataclasses.replace(run_of(one), researcher=BOB)), NOW
    )
    assert Phase.RUNNING is machine.phase(one.task_id)


def test_a_reported_task_is_forgotten_when_its_run_goes_to_the_next_round(machine):
    first, second = task("1", round_=1), task("2", round_=2)
    machine.handle(TaskReceived(first, model_here=True), NOW)
    machine.handle(TaskTrained(first.task_id), NOW)
    machine.handle(ReplyConfirmed(first.task_id), NOW)

    assert [Forget(first.task_id), Begin(second.task_id)] == machine.handle(
        TaskReceived(second, model_here=True), NOW
    )


def test_an_answer_that_the_broker_does_not_have_is_kept_into_the_next_round(machine):
    first, second = task("1", round_=1), task("2", round_=2)
    machine.handle(TaskReceived(first, model_here=True), NOW)
    machine.handle(TaskTrained(first.task_id), NOW)

    assert [Begin(second.task_id)] == machine.handle(TaskReceived(second, model_here=True), NOW)


def test_losing_the_worker_is_worth_another_try_and_a_refusal_is_not():
    assert not Failure.of(WorkerDiedError(status="signal SIGKILL", step="a task")).final


def test_a_broken_task_is_answered_with_its_reason(machine):
    one = task()
    machine.handle(TaskReceived(one, model_here=True), NOW)
    reason = Failure("WRN-504", "it broke", plan_line=3)

    assert [Refuse(one.task_id, reason), Report(one.task_id)] == machine.handle(
        TaskBroke(one.task_id, reason), NOW
    )


@pytest.mark.parametrize("phase", [Phase.RECEIVED, Phase.WAITING, Phase.RUNNING])
def test_unfinished_tasks_begin_again_after_a_restart(machine, phase):
    one = task()

    assert [Begin(one.task_id)] == machine.handle(TaskRecovered(one, phase, model_here=True), NOW)


def test_an_unreported_answer_is_reported_after_a_restart(machine):
    one = task()

    assert [Report(one.task_id)] == machine.handle(TaskRecovered(one, Phase.ANSWERED, model_here=True), NOW)


def test_a_run_that_was_served_longest_ago_goes_first():
    machine = TaskMachine(max_workers=1)
    other = ExperimentId(derived_uuid("other"))
    a1, a2 = task("a1"), task("a2")
    b1 = task("b1", researcher=BOB, experiment=other, run=RUN_2)
    machine.handle(TaskReceived(a1, model_here=True), NOW)
    machine.handle(TaskReceived(a2, model_here=True), NOW)
    machine.handle(TaskReceived(b1, model_here=True), NOW)

    assert Begin(b1.task_id) in machine.handle(TaskTrained(a1.task_id), NOW)
