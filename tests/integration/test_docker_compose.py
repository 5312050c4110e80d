"""What of docker-compose.yml can be tried without Docker: it is valid, all that it names exists, and its scripts run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.handover import HOME
from node.home import NodeHome
from node.registry import Registry

ROOT = Path(__file__).parents[2]
DEADLINE_S = 110


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


def test_there_is_a_broker_two_nodes_a_researcher_and_who_makes_their_federation(services):
    assert {"provision", "rabbitmq", "cleveland", "hungary", "researcher"} == services.keys()


def test_every_file_that_it_names_exists_and_can_be_run(services):
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for word in [*service.get("entrypoint", []), *service.get("command", [])]:
            if "/" in word:
                assert os.access(ROOT / word, os.X_OK), word


def test_every_volume_and_service_that_it_names_is_declared(compose, services):
    used = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    awaited = {name for service in services.values() for name in service.get("depends_on", {})}

    assert used == compose["volumes"].keys()
    assert awaited <= services.keys()


def test_the_image_is_made_of_files_that_exist():
    lines = (ROOT / "deploy" / "docker" / "Dockerfile").read_text().splitlines()
    sources = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]

    assert [] == [source for source in sources if not (ROOT / source).exists()]
    assert {"common", "node", "researcher", "deploy", "pyproject.toml"} <= set(sources)


def test_the_broker_finds_its_files_where_they_are_mounted(services):
    assert f"broker-files:{HOME}:ro" in services["rabbitmq"]["volumes"]


@pytest.fixture
def run(tmp_path):
    """A function that runs a script of the containers, with their folders below a temporary one."""
    folders = {name: str(tmp_path / name.lower()) for name in ("FEDERATION", "BROKER", "DATA", "NODE_HOME")}
    programs = Path(sys.executable).parent
    environment = {**os.environ, **folders, "PATH": f"{programs}:{os.environ['PATH']}"}
    environment["WARREN_HOME"] = str(tmp_path / "researcher")

    def start(script, *arguments, **more):
        return subprocess.Popen(
            [ROOT / "deploy" / "docker" / script, *arguments],
            env={**environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def ended(process):
    said, _ = process.communicate(timeout=DEADLINE_S)
    return process.returncode, said


def test_its_scripts_make_a_federation_a_node_and_a_researcher(run, tmp_path, services):
    assert ended(run("provision.sh"))[0] == 0
    assert ended(run("provision.sh")) == (0, "")
    assert (tmp_path / "broker" / "definitions.json").is_file()
    kits = {path.name for path in (tmp_path / "federation" / "kits").iterdir()}
    assert kits == {"registrar", "alice", "cleveland", "hungary"}
    assert 'host = "rabbitmq"' in (tmp_path / "federation" / "kits" / "alice" / "connection.toml").read_text()

    node = run("node.sh", **services["cleveland"]["environment"])
    with node:
        for line in node.stdout:
            if "the agent of cleveland runs" in line:
                break
        node.terminate()
        assert node.wait(DEADLINE_S) == 0
    registry = Registry(NodeHome.open(tmp_path / "node_home").registry_path)
    assert ["heart"] == [dataset.name for dataset in registry.list()]
    registry.close()

    status, said = ended(run("researcher.sh", "experiments"))
    assert status == 0, said
    assert "folder" in said
