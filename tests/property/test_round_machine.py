"""The round machine against a simple model, with any events in any order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common.ids import RunId, derived_uuid, task_id
from researcher.round import (
    CancelAsked,
    CancelTask,
    CloseRound,
    DeadlinePassed,
    FailRound,
    NodeOffline,
    NodeOnline,
    RoundMachine,
    RoundState,
    SendTask,
    TaskFailed,
    UpdateAccepted,
    UpdateRefused,
)
from researcher.strategies import DefaultStrategy, MinimumStrategy

RUN = RunId(derived_uuid("run"))
NODES = ("a", "b", "c", "d")
STRATEGIES = st.one_of(
    st.builds(DefaultStrategy, retries=st.integers(0, 2)),
    st.builds(
        MinimumStrategy,
        min_nodes=st.integers(1, 4),
        deadline_s=st.one_of(st.none(), st.floats(1, 100)),
        retries=st.integers(0, 2),
    ),
)


class RoundMachineAgainstModel(RuleBasedStateMachine):
    """Remembers every order, and what each task became."""

    @initialize(nodes=st.sets(st.sampled_from(NODES), min_size=1), strategy=STRATEGIES)
    def start(self, nodes, strategy):
        self.nodes, self.strategy = tuple(nodes), strategy
        self.machine = RoundMachine(1, RUN, self.nodes, strategy, opened_at=0.0)
        self.now = 0.0
        self.events = []
        self.orders = list(self.machine.start())
        self.counted = set()
        self.cancelled_ones = set()

    def tell(self, event):
        self.events.append(event)
        new = self.machine.handle(event)
        self.orders += new
        self.cancelled_ones |= {order.task_id for order in new if isinstance(order, CancelTask)}
        return new

    @rule(node=st.sampled_from(NODES), attempt=st.integers(1, 4), again=st.booleans())
    def update_arrives(self, node, attempt, again):
        task = task_id(RUN, 1, node, attempt)
        admitted = self.machine.admits(task)
        assert not (admitted and task in self.counted)
        self.tell(UpdateAccepted(task, self.now))
        if admitted:
            self.counted.add(task)
        if again:
            before = self.machine.accepted
            self.tell(UpdateAccepted(task, self.now))
            assert before == self.machine.accepted

    @rule(node=st.sampled_from(NODES), attempt=st.integers(1, 4))
    def update_is_refused(self, node, attempt):
        self.tell(UpdateRefused(task_id(RUN, 1, node, attempt), "unsound", self.now))

    @rule(node=st.sampled_from(NODES), attempt=st.integers(1, 4), final=st.booleans())
    def task_fails(self, node, attempt, final):
        self.tell(TaskFailed(task_id(RUN, 1, node, attempt), "broke", final=final, at=self.now))

    @rule(node=st.sampled_from(NODES), online=st.booleans())
    def node_changes(self, node, online):
        self.tell(NodeOnline(node, self.now) if online else NodeOffline(node, self.now))

    @rule(seconds=st.floats(0, 60))
    def time_passes(self, seconds):
        self.now += seconds
        self.tell(DeadlinePassed(self.now))

    @rule()
    def a_person_cancels(self):
        self.tell(CancelAsked(self.now))

    @invariant()
    def the_round_ends_at_most_once_and_says_how(self):
        ends = [order for order in self.orders if isinstance(order, CloseRound | FailRound)]
        assert len(ends) == (self.machine.state is not RoundState.OPEN)
        if ends and isinstance(ends[0], CloseRound):
            assert RoundState.CLOSED is self.machine.state
        elif ends:
            expected = RoundState.CANCELLED if ends[0].cancelled else RoundState.FAILED
            assert expected is self.machine.state

    @invariant()
    def nothing_is_ordered_after_the_end(self):
        for position, order in enumerate(self.orders):
            if isinstance(order, CloseRound | FailRound):
                assert len(self.orders) == position + 1

    @invariant()
    def what_is_aggregated_is_what_was_counted_in_node_order(self):
        counted = {task for task in self.counted if task in self.machine.accepted}
        assert counted == set(self.machine.accepted)
        for order in self.orders:
            if isinstance(order, CloseRound):
                assert order.tasks == self.machine.accepted
                assert list(order.tasks) == sorted(order.tasks, key=self._node_of)

    @invariant()
    def no_node_has_two_tasks_out_and_no_task_is_sent_twice(self):
        sent = [order.task_id for order in self.orders if isinstance(order, SendTask)]
        assert len(set(sent)) == len(sent)
        for node in self.nodes:
            attempts = [
                order.attempt for order in self.orders if isinstance(order, SendTask) and order.node == node
            ]
            assert list(range(1, len(attempts) + 1)) == attempts
            assert len(attempts) <= self.strategy.retries + 1

    @invariant()
    def whoever_is_out_at_the_end_is_told(self):
        if self.machine.state is not RoundState.OPEN:
            assert self.cancelled_ones == set(self.machine.waiting.values())

    @invariant()
    def each_node_is_in_one_place(self):
        accepted = {self._node_of(task) for task in self.machine.accepted}
        assert not accepted & self.machine.waiting.keys()
        assert accepted | self.machine.waiting.keys() <= set(self.nodes)

    @invariant()
    def the_same_events_give_the_same_orders(self):
        other = RoundMachine(1, RUN, self.nodes, self.strategy, opened_at=0.0)
        orders = other.start() + [order for event in self.events for order in other.handle(event)]
        assert self.orders == orders

    def _node_of(self, task):
        return next(n for n in self.nodes for a in range(1, 5) if task_id(RUN, 1, n, a) == task)


RoundMachineAgainstModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, derandomize=True
)
TestRoundMachine = RoundMachineAgainstModel.TestCase
