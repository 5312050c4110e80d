"""`warren-node doctor` says what a node lacks and what to do about it."""

import json

import pytest
from typer.testing import CliRunner

from node.cli import app
from node.home import NodeHome
from node.registry import Registry
from tests.support.certificates import make_authority
from tests.support.parties import make_kit


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture
def home(tmp_path, authority):
    """The home of a node whose broker does not answer."""
    made = NodeHome.create(tmp_path / "home", make_kit(tmp_path / "kit", authority))
    made.settings_path.write_text("compulsory_protections = []\n")
    return made


def examined(home):
    """Return the exit code and the findings by subject."""
    result = CliRunner().invoke(app, ["doctor", str(home.path), "--json"])
    document = json.loads(result.stdout)
    assert document["healthy"] == (result.exit_code == 0)
    return result.exit_code, {finding["subject"]: finding for finding in document["findings"]}


def health(findings, subject):
    return findings[subject]["health"]


def add_table(home, path):
    path.write_text("age,chol\n63,233.5\n41,\n")
    registry = Registry(home.registry_path)
    registry.add(path, name="heart", tags=["heart"], description="a table")
    registry.close()
    return path


def test_a_node_whose_broker_lets_it_in_is_healthy(tmp_path, broker):
    home = NodeHome.create(tmp_path / "home", broker.kit_path("north"))
    home.settings_path.write_text("compulsory_protections = []\n")
    add_table(home, tmp_path / "heart.csv")

    code, findings = examined(home)

    assert 0 == code, findings
    assert {"ok"} == {health(findings, one) for one in ("versions", "settings", "kit", "broker", "disk")}
    assert "ok" == health(findings, "data set heart")


def test_everything_that_is_wrong_is_found_at_once(tmp_path, home):
    add_table(home, tmp_path / "heart.csv").unlink()
    home.settings_path.write_text(f'compulsory_protections = ["cpu_time"]\ndisk_floor_bytes = {2**60}\n')

    code, findings = examined(home)

    assert 1 == code
    wrong = {subject for subject, finding in findings.items() if finding["health"] == "wrong"}
    assert {"broker", "disk", "data set heart", "protection cpu_time"} == wrong
    assert "WRN-201" in findings["broker"]["text"]
    assert all(findings[subject]["advice"] for subject in wrong)
    assert "worker_cpu_s" in findings["protection cpu_time"]["advice"]


def test_a_kit_that_expires_soon_and_a_node_without_data_are_noted(tmp_path, authority):
    home = NodeHome.create(tmp_path / "home", make_kit(tmp_path / "kit", authority, days=20))

    _, findings = examined(home)

    assert ("note", "note") == (health(findings, "kit"), health(findings, "data sets"))
    assert "--kit" in findings["kit"]["advice"]


def test_wrong_settings_and_a_broken_kit_hide_nothing_else(home):
    home.settings_path.write_text("max_workers = 0\n")
    (home.kit_path / "cert.pem").unlink()

    code, findings = examined(home)

    assert 1 == code
    assert ("wrong", "wrong") == (health(findings, "settings"), health(findings, "kit"))
    assert "max_workers" in findings["settings"]["text"]
    assert "broker" not in findings
    assert "protection files" in findings


def test_a_user_for_workers_that_does_not_exist_is_told_with_the_command_that_makes_it(home):
    home.settings_path.write_text('worker_user = "nobody-at-all"\n')

    _, findings = examined(home)

    assert "wrong" == health(findings, "protections")
    assert "useradd" in findings["protections"]["advice"]


def test_what_an_agent_says_about_its_connection_is_believed(home):
    with home.lock():
        home.status_path.write_text(
            json.dumps(
                {
                    "party": "north",
                    "pid": 1,
                    "version": "0",
                    "started_at": 1.0,
                    "connected": True,
                    "detail": "connected to the broker",
                    "changed_at": 1.0,
                }
            )
        )
        _, findings = examined(home)

    assert "ok" == health(findings, "broker")
    assert "the agent says: connected to the broker" == findings["broker"]["text"]


def test_people_read_the_same_in_sentences(home):
    result = CliRunner().invoke(app, ["doctor", str(home.path)])

    assert 1 == result.exit_code
    assert "wrong  broker: WRN-201" in result.stdout
    assert "what to do:" in result.stdout
    assert "ok     protection privileges" in result.stdout


def test_a_gpu_that_is_offered_and_not_there_is_noted(home):
    home.settings_path.write_text('compulsory_protections = []\ngpu = "offer"\ngpu_device = 255\n')

    _, findings = examined(home)

    assert "note" == health(findings, "gpu")
    assert "gpu_device" in findings["gpu"]["advice"]
