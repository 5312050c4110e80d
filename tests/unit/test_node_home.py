import os
import stat
import subprocess
import sys
import time

import pytest

from common.errors import CertificateExpiredError, HomeError, HomeInUseError, InvalidSettingsError, KitError
from node.home import NodeHome
from node.policy import Policy
from node.status import AgentStatus, read_status, write_status
from tests.support.certificates import make_authority
from tests.support.parties import make_kit


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture(scope="module")
def kit(authority, tmp_path_factory):
    return make_kit(tmp_path_factory.mktemp("kits") / "north", authority)


@pytest.fixture
def home(tmp_path, kit):
    return NodeHome.create(tmp_path / "home", kit)


def test_a_home_is_made_of_a_kit_and_can_be_opened(home, kit):
    assert home == NodeHome.open(home.path)
    assert "north" == home.connection().party == home.kit().connection.party
    assert Policy() == home.policy()


def test_only_the_owner_can_enter_a_home_or_read_its_kit(home):
    assert 0o700 == stat.S_IMODE(home.path.stat().st_mode) == stat.S_IMODE(home.kit_path.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(part.stat().st_mode) for part in home.kit_path.iterdir()}


def test_the_kit_of_a_researcher_makes_no_node(tmp_path, authority):
    kit = make_kit(tmp_path / "lab", authority, party="lab")
    with pytest.raises(KitError, match="kit of a researcher"):
        NodeHome.create(tmp_path / "home", kit)
    assert not (tmp_path / "home").exists()


def test_an_expired_kit_makes_no_home(tmp_path, kit):
    with pytest.raises(CertificateExpiredError):
        NodeHome.create(tmp_path / "home", kit, now=time.time() + 366 * 86400)
    assert not (tmp_path / "home").exists()


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path, kit):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(HomeError, match="not empty"):
        NodeHome.create(tmp_path, kit)
    assert ["thesis.tex"] == [path.name for path in tmp_path.iterdir()]


def test_a_file_is_no_home(tmp_path, kit):
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="not a folder"):
        NodeHome.create(tmp_path / "file", kit)


def test_an_empty_folder_can_become_a_home(tmp_path, kit):
    (tmp_path / "home").mkdir()
    assert "north" == NodeHome.create(tmp_path / "home", kit).connection().party


def test_a_renewed_kit_replaces_the_old_one_and_settings_stay(home, tmp_path, authority):
    home.settings_path.write_text("max_workers = 3\n")
    renewed = make_kit(tmp_path / "renewed", authority, days=700)
    NodeHome.create(home.path, renewed)
    assert home.kit().days_left(time.time()) > 600
    assert 3 == home.policy().max_workers
    assert not list(home.path.glob("kit.*"))


def test_the_kit_of_another_party_does_not_get_into_a_home(home, tmp_path, authority):
    with pytest.raises(HomeError, match="home of north"):
        NodeHome.create(home.path, make_kit(tmp_path / "south", authority, party="south"))
    assert "north" == home.connection().party


def test_a_home_whose_making_was_interrupted_is_completed(tmp_path, kit):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "policy.toml").write_text("")
    assert "north" == NodeHome.create(tmp_path / "home", kit).connection().party


@pytest.mark.parametrize("missing", ["", "policy.toml", "kit"])
def test_what_is_no_home_is_refused_with_what_it_lacks(home, missing, tmp_path):
    if not missing:
        with pytest.raises(HomeError, match="no such folder"):
            NodeHome.open(tmp_path / "nowhere")
        return
    (home.path / missing).rename(tmp_path / "away")
    with pytest.raises(HomeError, match=missing):
        NodeHome.open(home.path)


def test_mistakes_in_the_settings_are_named(home):
    home.settings_path.write_text("max_wokers = 2\n")
    with pytest.raises(InvalidSettingsError, match="max_wokers"):
        home.policy()


def test_a_home_is_held_once_and_the_holder_is_named(home):
    assert home.holder() is None
    with home.lock():
        assert os.getpid() == home.holder()
        with pytest.raises(HomeInUseError) as caught, NodeHome.open(home.path).lock():
            pass
        assert str(os.getpid()) == str(caught.value.facts["pid"])
        assert os.getpid() == home.holder()
    assert home.holder() is None
    with home.lock():
        pass


def test_a_kit_is_not_replaced_under_a_running_agent(home, kit):
    with home.lock(), pytest.raises(HomeInUseError):
        NodeHome.create(home.path, kit)


def test_a_holder_that_was_killed_lets_go(home):
    program = (
        "import sys, pathlib; from node.home import NodeHome\n"
        "with NodeHome.open(pathlib.Path(sys.argv[1])).lock():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert b"held\n" == other.stdout.readline()
        assert other.pid == home.holder()
        other.kill()
        other.wait(30)
    assert home.holder() is None
    with home.lock():
        assert os.getpid() == home.holder()


def test_a_status_is_read_as_it_was_written(home):
    status = AgentStatus(
        party="north", pid=7, version="1", started_at=1.0, connected=True, detail="", changed_at=2.0
    )
    assert read_status(home.status_path) is None
    write_status(home.status_path, status)
    assert status == read_status(home.status_path)
    home.status_path.write_text("{}")
    assert read_status(home.status_path) is None
