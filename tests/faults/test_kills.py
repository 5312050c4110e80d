"""Whatever process is killed, at whatever moment, the model comes out the same to the bit and nothing is left behind."""

import pytest

from tests.faults.storms import summary, weather

KILLS = 25
SEED = 20261

pytestmark = [
    pytest.mark.broker,
    pytest.mark.long,
    pytest.mark.timeout(480),
    pytest.mark.usefixtures("forked_processes"),
]


def test_killing_any_process_at_any_moment_costs_time_and_nothing_else(tmp_path):
    with weather(tmp_path, SEED) as trial:
        while len(trial.kills) < KILLS:
            trial.storm(trial.mixed(KILLS - len(trial.kills)))
    print(summary(trial.kills))  # noqa: T201  shown with `pytest -s` and when the test fails
