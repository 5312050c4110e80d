"""Others look on while an experiment runs; programs read lines of JSON; who is slow or goes away holds nobody up."""

import contextlib
import io
import json
import threading

import pytest
from typer.testing import CliRunner

from common.errors import NotRunningError
from common.ids import derived_uuid
from common.messages import TaskState, TrainRequest
from researcher.cli import app
from researcher.home import Home
from researcher.monitoring import LinesView, NodeProgress, RoundEnded, RoundOpened, RunEnded, RunStarted
from researcher.monitoring.broadcast import Broadcast, watch
from researcher.monitoring.lines import event_of, line_of
from tests.support.events import EVENTS
from tests.support.experiments import Recorder, in_thread, joined, make
from tests.support.fake_node import DEADLINE_S, Place, Silence, Trial, always

EXPERIMENT = derived_uuid("experiment")


def test_an_event_is_the_same_after_it_was_a_line():
    for event in EVENTS:
        line = line_of(event)
        assert type(event).__name__ == json.loads(line)["event"]
        assert event == event_of(line)


@pytest.mark.parametrize("line", [b"{}", b'{"event": "Unheard"}', b'{"event": "RunEnded"}', b"[", b""])
def test_a_line_that_tells_no_event_is_refused(line):
    with pytest.raises(ValueError):  # noqa: PT011 - of json or of pydantic
        event_of(line)


def test_programs_get_one_line_for_each_event():
    out = io.StringIO()
    for event in EVENTS:
        LinesView(out).on_event(event)

    assert [type(event).__name__ for event in EVENTS] == [
        json.loads(line)["event"] for line in out.getvalue().splitlines()
    ]


def test_who_comes_late_is_told_how_the_round_stands(tmp_path):
    home = Home(tmp_path / ("a long way down " * 12))
    home.path.mkdir()
    started, opened, progress = EVENTS[0], EVENTS[1], EVENTS[2]
    with Broadcast(home, EXPERIMENT) as broadcast:
        for event in (started, RoundOpened(0, "train", (), 0.0, resumed=False), opened, progress):
            broadcast.on_event(event)
        looking = watch(home, EXPERIMENT, "heart")
        assert [started, opened, progress] == [next(looking) for _ in range(3)]
        broadcast.on_event(RunEnded(1, None, 0.1))
    assert [RunEnded(1, None, 0.1)] == list(looking)
    with pytest.raises(NotRunningError):
        next(watch(home, EXPERIMENT, "heart"))


def test_a_reader_that_is_slow_or_gone_is_let_go(tmp_path):
    home = Home(tmp_path)
    with Broadcast(home, EXPERIMENT) as broadcast:
        broadcast.on_event(EVENTS[0])
        slow = watch(home, EXPERIMENT, "heart")
        next(slow)
        gone = watch(home, EXPERIMENT, "heart")
        next(gone)
        gone.close()
        for number in range(100_000):
            broadcast.on_event(NodeProgress(number, "north", TaskState.RUNNING, ()))
            if number > 1000 and not broadcast._readers:
                break
        assert not broadcast._readers
        slow.close()


def test_an_experiment_is_watched_from_another_process_until_it_ends(tmp_path):
    with contextlib.ExitStack() as stack:
        trial = Trial(tmp_path / "nodes", ("north",))
        stack.callback(trial.close)
        north = trial.start("north", always(Silence()))
        place = stack.enter_context(Place(trial, tmp_path / "home"))
        recorder = Recorder()
        experiment = make(place, observers=(recorder,), round_limit=1)
        thread, errors = in_thread(experiment)
        recorder.until(RoundOpened)
        arguments = ["watch", str(experiment.folder), "--home", str(place.home.path), "--json-lines"]
        seen = []
        first = threading.Event()
        looking = watch(place.home, experiment.info()["id"], "heart")

        def look():
            for event in looking:
                seen.append(type(event))
                first.set()

        reader = threading.Thread(target=look)
        reader.start()
        assert first.wait(DEADLINE_S)
        north.until(TrainRequest)
        north.release()
        joined(thread)
        reader.join(DEADLINE_S)
        assert [] == errors
        assert (RunStarted, RunEnded) == (seen[0], seen[-1])
        assert RoundEnded in seen
        ended = CliRunner().invoke(app, arguments)
        assert 1 == ended.exit_code
        experiment.close()
