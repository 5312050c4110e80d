"""The notebook of the examples runs as it stands, here against a scripted node."""

import json
import sys
from pathlib import Path

import pytest

import researcher
from tests.support.fake_node import Place, Trial, dataset

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def cells():
    notebook = json.loads((EXAMPLES / "heart.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A federation of one scripted node that has the data of the notebook, entered by `Federation.open`."""
    trial = Trial(tmp_path / "nodes", ("north",))
    trial.start("north", datasets=(dataset("north", tags=("heart", "uci")),))
    with Place(trial, tmp_path / "home") as place:
        place.settle()
        monkeypatch.setattr(researcher.Federation, "open", classmethod(lambda cls: place))
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.chdir(tmp_path)
        yield place
    sys.modules.pop("heart_plan", None)
    trial.close()


def test_the_cells_of_the_notebook_run_in_their_order(place, tmp_path, capsys):
    names = {}
    for source in cells():
        exec(compile(source, "heart.ipynb", "exec"), names)  # noqa: S102 - our own notebook

    assert 15 == names["experiment"].round_current()
    assert (tmp_path / "model.safetensors").is_file()
    assert list((tmp_path / "board").glob("*/north/events.out.tfevents.*"))
    assert "15 {'north'" in capsys.readouterr().out
    names["experiment"].close()
