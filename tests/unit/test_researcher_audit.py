"""What a researcher's audit log says of an experiment."""

import json

import pytest
from typer.testing import CliRunner

from common.audit.record import Action
from common.audit.verify import read_records, verify
from researcher import MinimumStrategy
from researcher.cli import app
from tests.support.experiments import make
from tests.support.fake_node import Place, Trial, Update, always

NAN = Update(change=lambda tensors: {name: value * float("nan") for name, value in tensors.items()})


@pytest.fixture
def place(tmp_path):
    trial = Trial(tmp_path / "nodes")
    trial.start("north")
    trial.start("south", always(NAN))
    with Place(trial, tmp_path / "home") as place:
        yield place
    trial.close()


def test_everything_that_was_asked_came_and_was_made_is_recorded(place):
    experiment = make(place, round_limit=1, node_selection_strategy=MinimumStrategy(min_nodes=1))
    experiment.request_approval("please")
    experiment.run()
    model = experiment.history()[0].model
    experiment.close()

    found = list(read_records(place.home.audit))
    of = {action: [record for record in found if record.action is action] for action in Action}

    assert len(found) == verify(place.home.audit).records
    assert ("north", "south") == of[Action.PLAN_REQUESTED][0].parties
    (started,) = of[Action.RUN_STARTED]
    assert (experiment.plan_hash, ("north", "south")) == (started.plan_hash, started.parties)
    received = {record.actor: record for record in of[Action.UPDATE_RECEIVED]}
    assert ("done", "refused") == (received["north"].outcome, received["south"].outcome)
    assert "finite" in received["south"].note
    (ended,) = of[Action.ROUND_ENDED]
    assert (model, ("north",), "done") == (ended.digest, ended.parties, ended.outcome)
    assert of[Action.DATASETS_ASKED]
    assert of[Action.RUN_ENDED]


def test_the_log_of_a_researcher_is_shown_verified_and_exported(place, tmp_path):
    make(place, round_limit=1).request_approval("please")
    (place.home.path / "kit").mkdir()

    def called(*arguments):
        result = CliRunner().invoke(app, ["audit", *map(str, arguments), "--json"])
        return result.exit_code, json.loads(result.stdout)

    code, shown = called("show", place.home.path)
    assert (0, "log_begun") == (code, shown[0]["action"])
    assert 0 == called("export", place.home.path, tmp_path / "export.jsonl")[0]
    code, verdict = called("verify", tmp_path / "export.jsonl")
    assert (0, len(shown)) == (code, verdict["records"])
    assert (0, verdict) == (
        code,
        called("verify", place.home.path, "--anchor", verdict["anchor"])[1] | {"anchored": None},
    )
    code, refused = called("verify", place.home.path, "--anchor", f"0:{64 * '0'}")
    assert (1, "WRN-806") == (code, refused["error"]["code"])
