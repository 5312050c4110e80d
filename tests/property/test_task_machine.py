"""Whatever happens in whatever order, the task machine keeps its promises."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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

WORKERS = 2
PARTIES = [PartyId("alice"), PartyId("bob")]
TASKS = st.builds(
    lambda who, run, round_: Task(
        TaskId(derived_uuid(who, run, round_)),
        ExperimentId(derived_uuid("experiment", who)),
        RunId(f"00000000-0000-7000-8000-00000000000{run}"),
        round_,
        PARTIES[who],
        Digest(f"{round_}" * 64),
        None,
        0.0,
    ),
    st.integers(0, 1),
    st.integers(1, 2),
    st.integers(0, 3),
)


class TaskMachineMachine(RuleBasedStateMachine):
    """Feeds events, performs effects on a model of the journal, and crashes now and then."""

    def __init__(self):
        super().__init__()
        self.machine = TaskMachine(WORKERS)
        self.journal = {}  # task id -> (task, phase)
        self.runs = {}
        self.with_worker = set()
        self.answered = set()  # tasks whose answer was ever journalled
        self.newest = {}

    def do(self, event):
        for effect in self.machine.handle(event, 1.0):
            match effect:
                case KeepRun(run):
                    self.runs[run.researcher, run.experiment_id] = run
                case Begin(task_id):
                    assert task_id not in self.with_worker, "begun twice"
                    assert task_id not in self.answered, "trained again although its answer was journalled"
                    task = self.journal[task_id][0]
                    run = self.runs[task.researcher, task.experiment_id]
                    assert run.run_id == task.run_id, "stale work runs"
                    assert not run.ended, "work of an ended run runs"
                    self.with_worker.add(task_id)
                    self.journal[task_id] = (task, Phase.RUNNING)
                case Abort(task_id):
                    self.with_worker.remove(task_id)
                case Refuse(task_id, _):
                    self.with_worker.discard(task_id)
                    self.answer(task_id)
                case Report(task_id):
                    assert self.journal[task_id][1] in (Phase.ANSWERED, Phase.REPORTED), "nothing to report"
                case Forget(task_id):
                    self.with_worker.discard(task_id)
                    del self.journal[task_id]
                    self.answered.discard(task_id)

    def answer(self, task_id):
        self.answered.add(task_id)
        self.journal[task_id] = (self.journal[task_id][0], Phase.ANSWERED)

    @rule(task=TASKS, here=st.booleans())
    def receive(self, task, here):
        self.journal.setdefault(task.task_id, (task, Phase.RECEIVED))
        self.do(TaskReceived(task, here))

    @rule(task=TASKS)
    def model(self, task):
        self.do(ModelArrived(task.model))

    @rule(task=TASKS)
    def damage(self, task):
        self.do(ModelDamaged(task.model, Failure("WRN-106", "damaged", final=True)))

    @rule(data=st.data())
    def finish(self, data):
        if self.with_worker:
            task_id = data.draw(st.sampled_from(sorted(self.with_worker)))
            self.with_worker.remove(task_id)
            if data.draw(st.booleans()):
                self.answer(task_id)
                self.do(TaskTrained(task_id))
            else:
                self.do(TaskBroke(task_id, Failure("WRN-601", "gone", final=False)))

    @rule(task=TASKS)
    def confirm(self, task):
        if self.journal.get(task.task_id, (None, None))[1] is Phase.ANSWERED:
            self.journal[task.task_id] = (task, Phase.REPORTED)
            self.do(ReplyConfirmed(task.task_id))

    @rule(task=TASKS, who=st.sampled_from(PARTIES))
    def cancel(self, task, who):
        self.do(TasksCancelled(who, (task.task_id,)))

    @rule(task=TASKS)
    def stop(self, task):
        self.do(TaskStopped(task.task_id, PartyId("north")))

    @rule(task=TASKS, who=st.sampled_from(PARTIES))
    def receipt(self, task, who):
        self.do(UpdateArrived(who, (task.task_id,)))

    @rule(task=TASKS)
    def end(self, task):
        self.do(RunEnded(Run(task.researcher, task.experiment_id, task.run_id, ended=True)))

    @rule(here=st.booleans())
    def crash(self, here):
        self.machine = TaskMachine(WORKERS)
        self.with_worker = set()
        for run in self.runs.values():
            self.do(RunRecovered(run))
        for task, phase in list(self.journal.values()):
            self.do(TaskRecovered(task, phase, here))

    @invariant()
    def no_more_than_the_workers(self):
        assert len(self.with_worker) <= WORKERS

    @invariant()
    def the_journal_and_the_machine_agree_on_what_runs(self):
        assert len(self.with_worker) == self.machine.count(Phase.RUNNING)

    @invariant()
    def workers_are_never_idle_while_a_task_waits(self):
        if self.machine.count(Phase.WAITING):
            assert len(self.with_worker) == WORKERS


TestTaskMachine = TaskMachineMachine.TestCase
TestTaskMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
