"""What an experiment set aside is shown with its reason, and a refused update is kept to be looked at."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from researcher import MinimumStrategy
from researcher.cli import app
from tests.support.fake_node import Failure, Place, Trial, Update, always, shifted
from tests.unit.test_experiment import make


@pytest.fixture
def experiment(tmp_path):
    """One round of three nodes, of which one sends nonsense and one fails."""
    trial = Trial(tmp_path / "nodes", ("north", "south", "east"))
    with Place(trial, tmp_path / "home") as federation:
        trial.start("north", always(shifted(1.0)))
        trial.start(
            "south", always(Update(change=lambda t: {k: v * np.float32("nan") for k, v in t.items()}))
        )
        trial.start("east", always(Failure()))
        experiment = make(federation, node_selection_strategy=MinimumStrategy(min_nodes=1, deadline_s=20))
        experiment.run(1)
        yield experiment
    trial.close()


def test_refused_updates_and_failed_tasks_are_shown_with_their_reasons(experiment):
    result = CliRunner().invoke(app, ["quarantine", str(experiment.folder), "--json"])

    found = {one["node"]: one for one in json.loads(result.stdout)["set_aside"]}
    assert {"south": "refused", "east": "failed"} == {node: one["outcome"] for node, one in found.items()}
    assert "not finite" in found["south"]["reason"]
    assert "WRN-704" == found["south"]["code"]
    assert found["south"]["file"].endswith(found["south"]["digest"])
    assert found["east"]["file"] is None


def test_people_see_a_table(experiment):
    output = CliRunner().invoke(app, ["quarantine", str(experiment.folder)]).output

    assert "south" in output
    assert "refused" in output
