"""Give tests of experiments a researcher and scripted nodes, in this process."""

import pytest

from tests.support.fake_node import Place, Trial


@pytest.fixture
def nodes():
    """The nodes that there are; a module with others says so in a fixture of this name."""
    return ("north", "south")


@pytest.fixture
def trial(tmp_path, nodes):
    trial = Trial(tmp_path / "nodes", nodes)
    yield trial
    trial.close()


@pytest.fixture
def federation(trial, tmp_path):
    with Place(trial, tmp_path / "home") as federation:
        yield federation
