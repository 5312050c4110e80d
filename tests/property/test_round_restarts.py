"""The round machine with sampling, replacement and over-selection, when its process may die between any two events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.ids import RunId, derived_uuid
from researcher.round import (
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
from researcher.strategies import DefaultStrategy, MinimumStrategy, OverSelectStrategy

RUN = RunId(derived_uuid("run"))
NODES = ("a", "b", "c", "d", "e")
STRATEGIES = st.one_of(
    st.builds(DefaultStrategy, retries=st.integers(0, 1)),
    st.builds(
        MinimumStrategy, min_nodes=st.integers(1, 3), deadline_s=st.just(100.0), retries=st.integers(0, 1)
    ),
    st.builds(OverSelectStrategy, first=st.integers(1, 3), retries=st.integers(0, 1)),
)


class RoundWithRestarts(RuleBasedStateMachine):
    """Keeps what a ledger would keep: the tasks sent and what became of each, in the order in which it did."""

    @initialize(size=st.integers(1, 4), strategy=STRATEGIES)
    def start(self, size, strategy):
        self.strategy, self.size, self.reserve = strategy, size, NODES[size:]
        self.sent = {}  # task -> node
        self.settled = []  # events in order
        self.ended = []
        self.machine = RoundMachine(1, RUN, NODES[:size], strategy, 0.0, reserve=self.reserve)
        self.obey(self.machine.start())

    def obey(self, orders):
        for order in orders:
            match order:
                case SendTask(node, task):
                    assert task not in self.sent, "a task is sent twice"
                    assert node not in self.machine.waiting or self.machine.waiting[node] == task
                    self.sent[task] = node
                case CancelTask(_, task):
                    assert task in self.sent
                case CloseRound() | FailRound():
                    self.ended.append(order)

    def tell(self, event):
        if self.machine.admits(event.task_id):
            self.settled.append(event)
        self.obey(self.machine.handle(event))

    @rule(data=st.data(), again=st.booleans())
    def update_arrives(self, data, again):
        task = data.draw(st.sampled_from(sorted(self.sent)))
        for _ in range(1 + again):
            self.tell(UpdateAccepted(task, 0.0))

    @rule(data=st.data())
    def update_is_refused(self, data):
        self.tell(UpdateRefused(data.draw(st.sampled_from(sorted(self.sent))), "unsound", 0.0))

    @rule(data=st.data(), final=st.booleans())
    def task_fails(self, data, final):
        task = data.draw(st.sampled_from(sorted(self.sent)))
        self.tell(TaskFailed(task, "broke", final=final, at=0.0))

    @rule(node=st.sampled_from(NODES), online=st.booleans())
    def node_changes(self, node, online):
        self.obey(self.machine.handle(NodeOnline(node, 0.0) if online else NodeOffline(node, 0.0)))

    @rule(late=st.booleans())
    def time_passes(self, late):
        self.obey(self.machine.handle(DeadlinePassed(200.0 if late else 50.0)))

    @precondition(lambda self: self.machine.state is RoundState.OPEN)
    @rule()
    def the_process_dies_and_another_takes_over(self):
        before = self.machine
        asked = sorted(set(self.sent.values()))
        left = [node for node in self.reserve if node not in asked]
        self.machine = RoundMachine(
            1, RUN, asked, self.strategy, 0.0, reserve=left, sampled=len(set(asked) - set(self.reserve))
        )
        orders = self.machine.start()
        for event in self.settled:
            orders += self.machine.handle(event)
        fresh = [
            order for order in orders if not (isinstance(order, SendTask) and order.task_id in self.sent)
        ]
        self.obey(fresh)
        assert before.accepted == self.machine.accepted
        if self.machine.state is RoundState.OPEN:
            assert before.waiting.items() <= self.machine.waiting.items()

    @invariant()
    def what_counts_was_accepted_once_and_comes_in_node_order(self):
        accepted = [event.task_id for event in self.settled if isinstance(event, UpdateAccepted)]
        assert sorted(accepted) == sorted(self.machine.accepted)
        nodes = [self.sent[task] for task in self.machine.accepted]
        assert sorted(set(nodes)) == nodes

    @invariant()
    def a_round_ends_once_and_as_its_strategy_demands(self):
        assert len(self.ended) == (self.machine.state is not RoundState.OPEN)
        for end in self.ended:
            if isinstance(end, CloseRound):
                needed = {DefaultStrategy: self.size}.get(type(self.strategy), 1)
                assert len(end.tasks) >= needed
                if isinstance(self.strategy, OverSelectStrategy):
                    assert self.strategy.first == len(end.tasks)

    @invariant()
    def only_sampled_nodes_and_the_reserve_in_its_order_are_asked(self):
        asked = set(self.sent.values())
        assert set(NODES[: self.size]) <= asked
        others = [node for node in self.reserve if node in asked]
        assert list(self.reserve[: len(others)]) == others


RoundWithRestarts.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, derandomize=True
)
TestRoundWithRestarts = RoundWithRestarts.TestCase
