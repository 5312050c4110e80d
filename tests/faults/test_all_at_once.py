"""When broker, agents, workers and researcher die in the same moment, as in a power cut, the experiment goes on all the same."""

import pytest

from tests.faults.storms import weather

pytestmark = [
    pytest.mark.broker,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("forked_processes"),
]


def test_everything_may_die_at_once_and_the_model_comes_out_the_same(tmp_path):
    with weather(tmp_path, 7, rounds=3) as trial:
        kills = trial.storm(["everything"])

    assert ["everything"] == [kill.kind for kill in kills]
