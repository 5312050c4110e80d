"""Run experiments against scripted nodes: what several test files need."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from researcher import Experiment
from tests.support.fake_node import DEADLINE_S
from tests.support.tiny_plan import TinyPlan

ARGS = {"num_updates": 1, "random_seed": 7}


class Recorder:
    """An observer that remembers, and lets a test wait."""

    def __init__(self):
        self.events = []
        self._new = SimpleQueue()

    def on_event(self, event):
        self.events.append(event)
        self._new.put(event)

    def until(self, kind):
        while True:
            event = self._new.get(timeout=DEADLINE_S)
            if isinstance(event, kind):
                return event


def make(federation, **changes):
    federation.settle()
    settings = {
        "tags": ["heart"],
        "training_plan_class": TinyPlan,
        "training_args": ARGS,
        "model_args": {"inputs": 3},
        "federation": federation,
        "observers": (),
    }
    return Experiment(**(settings | changes))


def in_thread(experiment, *args):
    """Run an experiment in a thread of its own; returns the thread and a list that gets its error."""
    errors = []

    def run():
        try:
            experiment.run(*args)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def joined(thread):
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def dying(experiment, kind, count=1):
    """Add an observer that ends the run, as the death of its process would, when so many events of a kind have come."""

    class Deadly:
        left = count

        def on_event(self, event):
            if isinstance(event, kind):
                self.left -= 1
                if not self.left:
                    raise Death

    experiment._observers.append(Deadly())


class Death(BaseException):
    """The process died here."""


def crash(federation):
    """Leave the federation as a process that dies does: nothing more is sent or acknowledged."""
    federation._closed = True
    federation.hub.close()
