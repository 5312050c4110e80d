"""The machine of asynchronous steps against a simple model: any events in any order, twice, late, and a crash at any moment."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.ids import DatasetId, RunId, derived_uuid
from researcher.flow import AsyncMachine
from researcher.round import (
    CancelAsked,
    CancelTask,
    CloseRound,
    FailRound,
    NodeOffline,
    NodeOnline,
    RoundState,
    SendTask,
    TaskFailed,
    UpdateAccepted,
    UpdateRefused,
)
from researcher.rows import TaskRow
from researcher.strategies import AsyncStrategy

RUN = RunId(derived_uuid("run"))
NODES = ("a", "b", "c")


class AsyncMachineAgainstLedger(RuleBasedStateMachine):
    """Keeps what a ledger would keep, and checks after each event what follows from it."""

    @initialize(
        nodes=st.sets(st.sampled_from(NODES), min_size=1),
        buffer=st.integers(1, 4),
        max_staleness=st.one_of(st.none(), st.integers(0, 2)),
        retries=st.integers(0, 2),
    )
    def start(self, nodes, buffer, max_staleness, retries):
        self.strategy = AsyncStrategy(buffer=buffer, max_staleness=max_staleness, retries=retries)
        self.nodes = tuple(sorted(nodes))
        self.rows = {}  # task -> row, in the order of sending
        self.counted = {}  # step -> tasks
        self.closed = []
        self.machine = AsyncMachine(1, RUN, self.nodes, self.strategy)
        self.obey(self.machine.start())

    def obey(self, orders):
        for order in orders:
            match order:
                case SendTask(node, task, attempt):
                    assert task not in self.rows
                    self.rows[task] = TaskRow(
                        task, RUN, self.machine.round, node, DatasetId(derived_uuid(node)), attempt
                    )
                case CancelTask(_, task):
                    self.settle(task, "cancelled")
                case CloseRound(tasks):
                    assert self.counted[self.machine.round] == list(tasks)
                    assert self.strategy.buffer == len(tasks)
                    self.closed.append(tasks)
                    self.machine = self.machine.next()
                    self.obey(self.machine.start())
                case FailRound():
                    assert RoundState.OPEN is not self.machine.state

    def settle(self, task, state, *, reason=None, final=False):
        row = self.rows[task]
        if row.state == "sent":
            self.rows[task] = TaskRow(
                row.id, row.run, row.round, row.node, row.dataset, row.attempt, 0.0, state, final, reason
            )

    def tasks(self):
        return sorted(self.rows)

    @rule(data=st.data(), again=st.booleans())
    def update_arrives(self, data, again):
        task = data.draw(st.sampled_from(self.tasks()))
        for _ in range(1 + again):
            machine = self.machine
            if machine.admits(task):
                self.settle(task, "accepted")
                self.counted.setdefault(machine.round, []).append(task)
            self.obey(machine.handle(UpdateAccepted(task, 0.0)))

    @rule(data=st.data())
    def update_is_refused(self, data):
        task = data.draw(st.sampled_from(self.tasks()))
        if self.machine.admits(task):
            self.settle(task, "refused", reason="unsound")
        self.obey(self.machine.handle(UpdateRefused(task, "unsound", 0.0)))

    @rule(data=st.data(), final=st.booleans())
    def task_fails(self, data, final):
        task = data.draw(st.sampled_from(self.tasks()))
        if self.machine.admits(task):
            self.settle(task, "failed", reason="broke", final=final)
        self.obey(self.machine.handle(TaskFailed(task, "broke", final=final, at=0.0)))

    @rule(node=st.sampled_from(NODES), online=st.booleans())
    def node_changes(self, node, online):
        self.obey(self.machine.handle(NodeOnline(node, 0.0) if online else NodeOffline(node, 0.0)))

    @precondition(lambda self: self.machine.state is RoundState.OPEN)
    @rule()
    def the_process_dies_and_another_takes_over(self):
        before = self.machine
        rows = sorted(self.rows.values(), key=lambda row: (row.round, row.attempt, row.node))
        counted = self.counted.get(before.round, [])
        self.machine = AsyncMachine.restored(before.round, RUN, self.nodes, self.strategy, rows, counted)
        assert before.waiting == self.machine.waiting
        assert before.accepted == self.machine.accepted
        self.obey(self.machine.start())
        assert before.waiting == self.machine.waiting

    @rule()
    def a_person_cancels_near_the_end(self):
        if len(self.closed) > 6:
            self.obey(self.machine.handle(CancelAsked(0.0)))

    @invariant()
    def no_update_counts_twice_or_in_two_steps(self):
        every = [task for tasks in self.counted.values() for task in tasks]
        assert len(every) == len(set(every))
        assert all(self.rows[task].state == "accepted" for task in every)

    @invariant()
    def a_node_has_one_task_out_unless_it_was_lost(self):
        out = [row for row in self.rows.values() if row.state == "sent"]
        assert len(out) == len({row.node for row in out})
        if self.machine.state is RoundState.OPEN:
            assert {row.node: row.id for row in out} == self.machine.waiting
            assert out, "somebody must be working"
        else:
            assert [] == out

    @invariant()
    def nothing_too_stale_is_out(self):
        if self.machine.state is RoundState.OPEN:
            for row in self.rows.values():
                assert row.state != "sent" or self.strategy.uses(self.machine.round - row.round)


AsyncMachineAgainstLedger.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True
)
TestAsyncMachine = AsyncMachineAgainstLedger.TestCase
