"""What an agent does is on disk and in its audit log before anybody else can know of it, and is brought there as seldom as that allows."""

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.audit.record import Action, Entry
from common.clock import ManualClock
from node.steps import Consequences, Steps

LONGEST_S = 0.1


class Disk:
    """Journal and audit log at once: steps that were taken, and how many of them a power cut would leave."""

    def __init__(self):
        self.steps = 0
        self.synced = 0
        self.audited = []
        self.durable = 0

    @contextlib.contextmanager
    def transaction(self):
        yield
        self.steps += 1

    def sync(self):
        self.synced = self.steps

    def append(self, *entries, durable):
        self.audited.extend(entry.round for entry in entries)
        if durable:
            self.durable = len(self.audited)


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def steps(disk, clock):
    return Steps(disk, disk, clock)


@pytest.fixture
def after():
    return Consequences()


def entry(number, *, leaves=False):
    return Entry(action=Action.UPDATE_RELEASED if leaves else Action.TASK_ASKED, actor="lab", round=number)


def quiet_step(steps, after, number=1):
    with steps.step(after):
        steps.record(entry(number))
        after.settled.append(f"ack {number}")


def test_a_step_after_which_nothing_leaves_waits_for_the_disk_and_so_does_its_ack(steps, after, disk, clock):
    quiet_step(steps, after)

    assert (1, 0, []) == (disk.steps, disk.synced, disk.audited)
    assert [] == after.synced
    assert clock.monotonic() + LONGEST_S == steps.due


def test_acks_follow_what_others_wait_for_and_are_given_once(steps, after, disk):
    quiet_step(steps, after)

    with steps.step(after):
        after.synced.append("answer")
        after.settled.append("ack 2")

    assert ["answer", "ack 1", "ack 2"] == after.synced
    assert (2, [1]) == (disk.synced, disk.audited)
    after.synced.clear()
    with steps.step(after, last=True):
        pass
    assert [] == after.synced


def test_what_leaves_is_in_the_audit_log_for_good_with_all_that_was_before_it(steps, after, disk):
    quiet_step(steps, after)

    with steps.step(after):
        steps.record(entry(2, leaves=True))

    assert ([1, 2], 2, 2) == (disk.audited, disk.durable, disk.synced)


def test_what_waited_long_enough_is_brought_to_disk_by_a_step_of_nothing(steps, after, disk, clock):
    quiet_step(steps, after, 1)
    clock.advance(LONGEST_S / 2)
    quiet_step(steps, after, 2)  # does not put it off
    clock.advance(steps.due - clock.monotonic())

    with steps.step(after):
        pass

    assert (["ack 1", "ack 2"], [1, 2], 3) == (after.synced, disk.audited, disk.synced)
    assert float("inf") == steps.due


def test_the_last_step_leaves_nothing_behind(steps, after, disk):
    quiet_step(steps, after)

    with steps.step(after, last=True):
        pass

    assert (["ack 1"], [1], 2) == (after.synced, disk.audited, disk.synced)


def test_a_step_that_fails_is_in_no_log(steps, after, disk):
    with contextlib.suppress(ZeroDivisionError), steps.step(after):
        steps.record(entry(1, leaves=True))
        raise ZeroDivisionError

    with steps.step(after, last=True):
        steps.record(entry(2))

    assert (1, [2]) == (disk.steps, disk.audited)


@dataclass(frozen=True)
class Turn:
    passed_s: float
    entries: int
    leaves: bool
    answers: int
    acks: int


turns = st.lists(
    st.builds(
        Turn,
        passed_s=st.sampled_from([0.0, 0.01, 0.04, 0.2]),
        entries=st.integers(0, 2),
        leaves=st.booleans(),
        answers=st.integers(0, 1),
        acks=st.integers(0, 2),
    ),
    max_size=12,
)


@given(turns)
def test_whatever_happens_acks_are_given_once_and_never_before_the_disk_has_what_they_stand_for(taken):
    disk, clock, after = Disk(), ManualClock(), Consequences()
    steps = Steps(disk, disk, clock)
    given_to_broker, recorded, begun_at = [], [], {}

    def act():
        for deed in after.synced:
            if isinstance(deed, int):
                assert deed <= disk.synced, "acked before the disk has it"
                given_to_broker.append(deed)
            assert recorded == disk.audited, "something leaves that the audit log does not say"
        after.synced.clear()

    for number, turn in enumerate(taken, start=1):
        clock.advance(turn.passed_s)
        late = clock.monotonic() >= steps.due
        with steps.step(after):
            for _ in range(turn.entries):
                recorded.append(len(recorded))
                steps.record(entry(recorded[-1], leaves=turn.leaves))
            after.synced.extend(["answer"] * turn.answers)
            after.settled.extend([number] * turn.acks)
        begun_at |= {number: clock.monotonic()} if turn.acks else {}
        if late or turn.answers:
            assert disk.synced == number
        act()
        waiting = {one: at for one, at in begun_at.items() if one not in given_to_broker}
        assert all(steps.due <= at + LONGEST_S for at in waiting.values())

    with steps.step(after, last=True):
        pass
    act()
    assert [number for number, turn in enumerate(taken, start=1) for _ in range(turn.acks)] == given_to_broker
