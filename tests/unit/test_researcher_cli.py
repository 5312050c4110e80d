"""The commands of a researcher, as far as they need no broker."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from common.errors import HomeError, HomeInUseError, InvalidSettingsError, PlanSourceError
from common.payload.tensors import load_tensors
from deploy.reference import command_lines
from researcher.cli import app
from researcher.experiment_file import import_plan, load_experiment
from researcher.federation import Federation
from researcher.home import Home, HomeLock, default_home
from researcher.strategies import MinimumStrategy
from tests.support.certificates import make_authority
from tests.support.fake_node import Place, Trial
from tests.support.parties import make_kit

PLAN = """
import torch

from common.training_plans import TorchTrainingPlan


class FilePlan(TorchTrainingPlan):
    def init_model(self, model_args):
        return torch.nn.Linear(model_args["inputs"], 1)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(data), target)

    def training_data(self):
        raise AssertionError("a researcher loads no data")
"""

FILE = """
name = "heart"
tags = ["heart"]
rounds = 2

[plan]
file = "plan.py"
class = "FilePlan"

[model_args]
inputs = 3

[training_args]
num_updates = 1
random_seed = 7

[strategy]
name = "MinimumStrategy"
min_nodes = 1
deadline_s = 60
"""


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path / "nodes", ("north",))
    trial.start("north")
    yield trial
    trial.close()


@pytest.fixture
def place(trial, tmp_path):
    with Place(trial, tmp_path / "home") as place:
        place.settle()
        yield place


@pytest.fixture
def file(tmp_path):
    (tmp_path / "plan.py").write_text(PLAN)
    (tmp_path / "heart.toml").write_text(FILE)
    return tmp_path / "heart.toml"


def called(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_help_needs_neither_torch_nor_numpy():
    script = "import sys, researcher, researcher.cli; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


def test_an_experiment_runs_from_a_file(place, file):
    with load_experiment(file, place, ()) as experiment:
        assert MinimumStrategy(min_nodes=1, deadline_s=60) == experiment.strategy()
        assert 2 == experiment.run()
    assert "heart" == experiment.name


def test_a_file_can_say_how_updates_are_encoded(place, file):
    with load_experiment(file, place, ()) as experiment:
        assert "raw" == experiment.encoding()
    file.write_text('encoding = "int8+zstd"\n' + FILE)
    with load_experiment(file, place, ()) as experiment:
        assert "int8+zstd" == experiment.encoding()
    file.write_text('encoding = "int4"\n' + FILE)
    with pytest.raises(InvalidSettingsError, match="'int4' is not raw, fp16, bf16, int8 or"):
        load_experiment(file, place, ())


def test_a_wrong_file_names_every_mistake(place, tmp_path):
    (tmp_path / "bad.toml").write_text('tags = []\nround = 3\n[plan]\nfile = "plan.py"\n')

    with pytest.raises(InvalidSettingsError) as caught:
        load_experiment(tmp_path / "bad.toml", place, ())
    for mistake in ("tags", "rounds", "round:", "plan.class", "training_args"):
        assert mistake in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "is no Python file"), ("x = 1\n", "does not define it"), ("1 / 0\n", "raised ZeroDivisionError")],
)
def test_a_plan_file_that_cannot_be_used_says_why(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "plan.py").write_text(text)

    with pytest.raises(PlanSourceError, match=reason):
        import_plan(tmp_path / "plan.py", "FilePlan")


def test_experiments_are_listed_and_exported(place, file, tmp_path):
    with load_experiment(file, place, ()) as experiment:
        experiment.run()

    listed = json.loads(called("experiments", "--home", place.home.path, "--json").output)
    assert [("heart", 2, 2, "finished")] == [
        (one["name"], one["rounds"], one["round_limit"], one["state"]) for one in listed["experiments"]
    ]
    exported = json.loads(called("export", experiment.folder, tmp_path / "model", "--json").output)
    assert (2, experiment.history()[-1].model) == (exported["round"], exported["sha256"])
    assert {"weight", "bias"} == load_tensors(tmp_path / "model").keys()


def test_a_damaged_experiment_does_not_hide_the_others(place, file):
    with load_experiment(file, place, ()) as experiment:
        experiment.run()
    broken = place.home.experiments / "broken"
    broken.mkdir()
    (broken / "ledger.sqlite").write_bytes(b"rubbish" * 100)

    listed = json.loads(called("experiments", "--home", place.home.path, "--json").output)["experiments"]
    assert {"finished", True} == {
        one["state"] if one["name"] else "WRN-801" in one["state"] for one in listed
    }


def test_a_home_is_made_from_a_kit(tmp_path):
    kit = make_kit(tmp_path / "kit", make_authority(), party="lab")

    made = json.loads(called("init", tmp_path / "home", "--kit", kit, "--json").output)

    assert str(tmp_path / "home") == made["home"]
    assert "lab" == Home(tmp_path / "home").load_kit().connection.party


def test_the_kit_of_a_node_makes_no_researcher(tmp_path):
    kit = make_kit(tmp_path / "kit", make_authority(), party="north")

    failed = called("init", tmp_path / "home", "--kit", kit, "--json")

    assert 1 == failed.exit_code
    assert "kit of a node" in json.loads(failed.output)["error"]["text"]
    assert not (tmp_path / "home").exists()


def test_a_home_is_not_made_over_something_else(tmp_path):
    kit = make_kit(tmp_path / "kit", make_authority(), party="lab")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")

    assert "is not empty" in called("init", tmp_path / "home", "--kit", kit, "--json").output


def test_a_folder_that_is_no_home_says_how_to_make_one(tmp_path):
    with pytest.raises(HomeError, match="no kit") as caught:
        Home(tmp_path).load_kit()
    assert "warren-researcher init" in caught.value.advice


def test_a_home_serves_one_process(tmp_path):
    held = HomeLock.take(Home(tmp_path))

    with pytest.raises(HomeInUseError, match=r"in use by process \d+"):
        HomeLock.take(Home(tmp_path))
    held.release()
    HomeLock.take(Home(tmp_path)).release()


def test_the_default_home_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WARREN_HOME", str(tmp_path))
    assert tmp_path == default_home()
    monkeypatch.delenv("WARREN_HOME")
    assert "warren-researcher" == str(default_home())


def test_the_public_names_are_listed():
    import researcher

    assert sorted(researcher.__all__) == researcher.__all__
    assert researcher._HOMES.keys() == set(researcher.__all__)
    for name in researcher.__all__:
        assert name == getattr(researcher, name).__name__
    with pytest.raises(AttributeError):
        _ = researcher.Unknown


def test_the_history_becomes_a_table_when_pandas_is_there(place, file, monkeypatch):
    from common.errors import MissingExtraError

    with load_experiment(file, place, ()) as experiment:
        experiment.run()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pandas"):
        experiment.history().to_dataframe()

    class Pandas:
        DataFrame = staticmethod(list)

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    assert experiment.history().rows() == experiment.history().to_dataframe()


@pytest.fixture
def _logging_restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("_logging_restored")
def test_a_command_keeps_one_line_for_each_round_in_the_home_and_shows_warnings_only(
    place, file, monkeypatch
):
    monkeypatch.setattr(Federation, "open", classmethod(lambda cls, home: contextlib.nullcontext(place)))
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)

    assert 0 == called("run", file, "--home", place.home.path).exit_code
    logging.getLogger("researcher").info("afterwards")

    lines = [json.loads(line) for line in place.home.log.read_text().splitlines()]
    rounds = [line for line in lines if line["message"] == "round ended"]
    assert [1, 2] == [line["round"] for line in rounds]
    assert 1 == len({line["experiment"] for line in rounds})
    assert not [line for line in lines if line["message"] == "afterwards"]
    assert "round ended" not in shown.getvalue()


@pytest.mark.parametrize(("options", "level"), [((), logging.WARNING), (("--verbose",), logging.DEBUG)])
@pytest.mark.parametrize("program", ["warren", "warren-researcher"])
@pytest.mark.usefixtures("_logging_restored")
def test_programs_log_warnings_and_everything_when_they_are_asked_to(program, options, level, tmp_path):
    words = {"warren": ["errors"], "warren-researcher": ["experiments", "--home", str(tmp_path)]}[program]
    assert 0 == CliRunner().invoke(command_lines()[program], [*options, *words]).exit_code

    assert level == logging.getLogger().level
