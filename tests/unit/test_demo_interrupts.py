"""A person may stop the demo at any moment, and it stops at a moment when nothing is lost by it."""

from __future__ import annotations

import os
import queue
import signal
import threading

import pytest

from deploy.demo.interrupts import SIGNALS, Interrupts


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_where_that_is_allowed(number):
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt) as stop, interrupts.allowed():
        signal.raise_signal(number)
    assert stop.value.args == (number,)


def test_a_signal_before_the_block_interrupts_at_its_beginning():
    reached = []
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            reached.append("inside")
    assert reached == []


def test_a_signal_waits_until_a_step_is_whole():
    steps = []

    def work(interrupts):
        with interrupts.allowed():
            with interrupts.held():
                signal.raise_signal(signal.SIGINT)
                steps.append("whole")
            steps.append("next")

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work(interrupts)
    assert steps == ["whole"]


def test_whoever_cleans_up_is_not_disturbed():
    cleaned = []
    with Interrupts() as interrupts:
        try:
            with interrupts.allowed():
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("all")
    assert cleaned == ["all"]


def test_an_error_in_a_held_step_passes():
    with (
        Interrupts() as interrupts,
        pytest.raises(ZeroDivisionError),
        interrupts.allowed(),
        interrupts.held(),
    ):
        raise ZeroDivisionError


def test_earlier_handlers_return():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_ctrl_c_wakes_a_waiting_main_thread_also_after_a_library_has_changed_how_signals_arrive():
    waited_for = queue.SimpleQueue()
    too_late = threading.Timer(10, waited_for.put, [None])

    def work(interrupts):
        with interrupts.allowed():
            with interrupts.held():
                signal.siginterrupt(signal.SIGINT, False)  # what `import polars` does
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            too_late.start()
            waited_for.get()  # without a limit: a wait with one wakes up anyway

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work(interrupts)
    assert not too_late.finished.is_set()
    too_late.cancel()
