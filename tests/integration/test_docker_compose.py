"""What of the compose files can be tried without Docker: they are valid and locked down, all that they name exists, and their
scripts, environment and configuration make a federation that trains."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from common.exporter import ExporterSettings
from deploy.broker import PrivateBroker, find_server
from deploy.definitions import with_operator
from deploy.federation import Federation
from deploy.handover import HOME, MANAGEMENT_PORT, PROMETHEUS_PORT
from deploy.ports import free_port
from node.cli.gui import PORT
from node.home import NodeHome
from node.registry import Registry
from node.status import read_status
from researcher.exporter import settings_in

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
DEADLINE_S = 110
NODES = ("cleveland", "hungary", "switzerland", "va")
FILES = {"trial": ROOT / "docker-compose.yml", "hospital": DOCKER / "node.yml"}
STEPS = re.findall(r"^(COPY .*?|USER .*|FROM .*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)


class Part(BaseModel):
    """A part of a compose file; what is not known here is a mistake."""

    model_config = ConfigDict(extra="forbid")


class Health(Part):
    """As in the compose specification."""

    test: Annotated[list[str], Field(min_length=2)] = Field(default=["NONE", ""])
    interval: str = ""
    timeout: str = ""
    start_period: str = ""
    retries: int = 3
    disable: bool = False


class Limits(Part):
    """As in the compose specification."""

    cpus: str
    memory: Annotated[str, Field(pattern=r"^(\d+[mg]|\$\{\w+:-\d+[mg]\})$")]
    pids: int


class Service(Part):
    """As in the compose specification, and with all that every service must say."""

    image: Annotated[str, Field(pattern=r"^(\$\{\w+:-)?[\w/.-]+:v?\d+\.\d+\.\d+(-\w+)?\}?$")]
    """Pinned."""
    build: dict[Literal["context", "dockerfile", "target", "args"], Any] | None = None
    user: Annotated[str, Field(pattern=r"^\d+:\d+$")]
    entrypoint: list[str] = []
    command: list[str] = []
    restart: Literal["unless-stopped", "no"]
    init: Literal[True]
    read_only: Literal[True]
    cap_drop: tuple[Literal["ALL"]]
    cap_add: list[Literal["CHOWN", "DAC_OVERRIDE", "FOWNER"]] = []
    security_opt: tuple[Literal["no-new-privileges:true"]]
    tmpfs: list[str]
    logging: dict[Literal["driver", "options"], Any]
    depends_on: dict[
        str, dict[Literal["condition"], Literal["service_healthy", "service_completed_successfully"]]
    ] = {}
    environment: dict[str, str] = {}
    networks: list[str] | dict[str, dict[Literal["ipv4_address"], str]] = []
    network_mode: Literal["none"] | None = None
    ports: list[Annotated[str, Field(pattern=r"^127\.0\.0\.1:\d+:\d+$")]] = []
    """On the loopback only."""
    volumes: list[str]
    ulimits: dict[str, int] = {}
    healthcheck: Health | None = None
    stop_grace_period: str = ""
    profiles: list[str] = []
    deploy: dict[Literal["resources"], dict[Literal["limits"], Limits]]


class Compose(Part):
    """A compose file; keys that begin with `x-` are for its own use."""

    model_config = ConfigDict(extra="allow")
    name: str
    services: dict[str, Service]
    networks: dict[str, dict[str, Any]]
    volumes: dict[str, None]


def load(path):
    document = yaml.safe_load(path.read_text())
    return Compose.model_validate({key: one for key, one in document.items() if not key.startswith("x-")})


@pytest.fixture(scope="module")
def trial():
    return load(FILES["trial"])


@pytest.fixture(params=sorted(FILES))
def compose(request):
    return load(FILES[request.param])


def mounts(service):
    """Return what is mounted where."""
    parts = [re.fullmatch(r"(\$\{\w+:-[^}]*\}|[^:]+):([^:]+)(:ro)?", one).groups() for one in service.volumes]
    return {target: source for source, target, _ in parts}


def test_a_compose_file_is_valid_and_every_service_is_locked_down(compose):
    assert not compose.model_extra
    for name, service in compose.services.items():
        root = service.user.startswith("0:")
        assert not root or (service.network_mode == "none" and service.restart == "no"), name
        assert service.healthcheck or service.restart == "no", name


def test_every_volume_network_and_service_that_is_named_is_declared_and_the_other_way_round(compose):
    services = compose.services.values()
    sources = {source for service in services for source in mounts(service).values()}

    assert compose.volumes.keys() == {one for one in sources if not one.startswith((".", "/", "$"))}
    assert compose.networks.keys() == {network for service in services for network in service.networks}
    for service in services:
        assert service.depends_on.keys() <= compose.services.keys()
        for name, how in service.depends_on.items():
            awaited = compose.services[name]
            ends = how["condition"] == "service_completed_successfully"
            assert (awaited.restart == "no") if ends else awaited.healthcheck


def test_a_node_reaches_the_broker_and_nothing_else_and_nothing_reaches_a_node(trial):
    for node in NODES:
        service = trial.services[node]
        (network,) = service.networks
        assert trial.networks[network] == {"internal": True}
        assert {node, "rabbitmq"} == {name for name, one in trial.services.items() if network in one.networks}
        assert not service.ports
        assert {"/kit", "/data", "/plan", "/home/warren/home"} == mounts(service).keys()
    private = [one for node in NODES for one in mounts(trial.services[node]).values() if one != "plan"]
    assert len(private) == len(set(private)), "two nodes share a volume"


def test_the_node_of_a_hospital_opens_the_port_of_its_page_alone_and_reads_kit_and_data_only():
    (service,) = load(FILES["hospital"]).services.values()

    assert [f"127.0.0.1:{PORT}:{PORT}"] == service.ports
    assert service.environment["GUI"]
    assert [] == [one for one in service.volumes if not one.endswith(":ro") and not one.startswith("home:")]


def test_no_password_stands_in_a_file(compose):
    for service in compose.services.values():
        for name, value in service.environment.items():
            if re.search("PASSWORD|TOKEN|SECRET", name):
                assert name.endswith("_FILE"), name
                assert value.startswith("/run/secrets/")
    assert "token" not in " ".join(word for one in compose.services.values() for word in one.command).lower()


def test_the_federation_has_every_part_that_is_promised(trial):
    assert trial.services.keys() == {
        *NODES, "provision", "rabbitmq", "researcher", "demo", "prometheus", "grafana"
    }  # fmt: skip
    assert {name: one.profiles for name, one in trial.services.items() if one.profiles} == {"demo": ["demo"]}
    assert {"127.0.0.1:8888:8888", "127.0.0.1:3000:3000"} == {
        port for one in trial.services.values() for port in one.ports
    }


def in_image(path):
    """Return the file of the repository that is at a path of the image of the parties."""
    for source, target in re.findall(
        r"^COPY (\S+) (/\S+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE
    ):
        if Path(path).is_relative_to(target):
            return ROOT / source / Path(path).relative_to(target)
    raise AssertionError(f"nothing is copied to {path}")


def test_every_file_of_the_repository_that_is_named_exists_and_scripts_can_be_run(compose):
    for service in compose.services.values():
        if service.build:
            dockerfile = ROOT / service.build["context"] / service.build["dockerfile"]
            assert dockerfile.is_file()
            assert f" AS {service.build['target']}" in dockerfile.read_text()
        for source in mounts(service).values():
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
        for word in [*service.entrypoint, *service.command]:
            if word.startswith("deploy/docker/"):
                assert os.access(in_image(f"/warren/{word}"), os.X_OK), word
            elif word.startswith("examples/"):
                assert in_image(f"/warren/{word}").is_file(), word


def test_every_variable_is_one_that_the_container_reads(trial):
    scripts = "".join(path.read_text() for path in DOCKER.glob("*.sh"))
    for name, service in trial.services.items():
        for variable in service.environment:
            known = (
                re.search(rf"\$\{{?{variable}\b", scripts)
                or variable.startswith(("GF_", "RABBITMQ_", "ERL_"))
                or variable.removeprefix("WARREN_METRICS_").lower() in ExporterSettings.model_fields
            )
            assert known, f"{name}: {variable}"
    assert settings_in(trial.services["researcher"].environment).login == Path("/run/metrics/login")


def test_the_images_are_made_of_files_that_exist_and_run_as_a_user():
    sources = [
        word
        for step in STEPS
        if step.startswith("COPY") and "--from" not in step
        for word in step.split()[1:-1]
    ]

    assert [] == [source for source in sources if not (ROOT / source).exists()]
    assert {"common", "node", "researcher", "deploy", "pyproject.toml", "constraints.txt"} <= set(sources)
    assert "USER warren" in STEPS


def test_prometheus_and_grafana_find_their_files_and_each_other(trial):
    prometheus, grafana = trial.services["prometheus"], trial.services["grafana"]
    configuration = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus.command
    for file in ("prometheus.yml", *configuration["rule_files"]):
        assert ROOT / mounts(prometheus)[f"/etc/prometheus/{file}"] == ROOT / "deploy" / "prometheus" / file
    for job in configuration["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            host, port = target.split(":")
            service = trial.services[host]
            assert set(service.networks) & set(prometheus.networks)
            assert port == service.environment.get("WARREN_METRICS_PORT", str(PROMETHEUS_PORT))
    scripts = (DOCKER / "provision.sh").read_text()
    secret = configuration["scrape_configs"][0]["basic_auth"]["password_file"]
    assert f'"$secrets/prometheus/{Path(secret).name}"' in scripts
    assert trial.services["rabbitmq"].networks["monitoring"] == {
        "ipv4_address": trial.services["provision"].environment["METRICS_ADDRESS"]
    }

    provisioning = ROOT / mounts(grafana)["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "warren.yml").read_text())["providers"]
    dashboards = ROOT / mounts(grafana)[provider["options"]["path"]]
    home = Path(grafana.environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert source["url"] == "http://prometheus:9090"
    assert (dashboards / home.name).is_file()
    assert home.parent == Path(provider["options"]["path"])
    found = [json.loads(path.read_text()) for path in dashboards.glob("*.json")]
    assert len({one["uid"] for one in found}) == len(found) == 4
    assert {source["uid"]} == {panel["datasource"]["uid"] for one in found for panel in one["panels"]}


def test_the_broker_finds_its_files_where_they_are_mounted(trial):
    assert mounts(trial.services["rabbitmq"])[str(HOME)] == mounts(trial.services["provision"])["/broker"]


def test_the_broker_opens_nothing_but_its_port_to_parties_and_finds_its_data_again_in_a_new_container(trial):
    rabbitmq = trial.services["rabbitmq"]
    private = PrivateBroker.__new__(PrivateBroker)
    private.folder = Path("/")
    ours = private._environment(1, 2)

    for name in ("RABBITMQ_NODENAME", "ERL_EPMD_ADDRESS", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"):
        assert ours[name].startswith(rabbitmq.environment[name])
    assert {"/tmp", "/var/log/rabbitmq"} == {one.split(":")[0] for one in rabbitmq.tmpfs}  # noqa: S108 - in a container


# The same, run without containers


class ComposeBroker(PrivateBroker):
    """A private broker with the very files that provisioning made for the container, save for places."""

    files: Path
    environment: dict[str, str]

    def _environment(self, *ports):
        self.used = super()._environment(*ports) | self.environment
        return self.used

    def _write_files(self, places):
        super()._write_files(places)
        text = (self.files / "rabbitmq.conf").read_text()
        for there, here in {
            f"{HOME}/": f"{self.files}/",
            "0.0.0.0:5671": f"127.0.0.1:{places.port}",
            f"= {MANAGEMENT_PORT}": f"= {places.management_port}",
            f"= {PROMETHEUS_PORT}": f"= {places.prometheus_port}",
        }.items():
            assert there in text
            text = text.replace(there, here)
        (self.folder / "rabbitmq.conf").write_text(text)
        (self.folder / "enabled_plugins").write_text((self.files / "enabled_plugins").read_text())
        definitions = self.files / "definitions.json"
        document = with_operator(json.loads(definitions.read_text()), self.endpoint.password)
        definitions.write_text(json.dumps(document))


@pytest.fixture(scope="module")
def containers(tmp_path_factory, trial):
    """A function that runs a script of a service with its environment, and the paths of the container moved to a folder."""
    folder = tmp_path_factory.mktemp("containers")
    (folder / "warren").mkdir()
    (folder / "warren" / "examples").symlink_to(ROOT / "docs" / "examples")
    (folder / "warren" / "deploy").symlink_to(ROOT / "deploy")
    programs = Path(sys.executable).parent

    def start(service, *, command=(), **more):
        said = trial.services[service]
        moved = {"/plan/": f"{folder}/plan/", "/data/": f"{folder}/data/{service}/"}
        environment = {
            name: next(
                (
                    here + value.removeprefix(there)
                    for there, here in moved.items()
                    if value.startswith(there)
                ),
                value,
            )
            for name, value in said.environment.items()
            if not name.startswith("WARREN_METRICS")
        }
        places = {
            "FEDERATION": folder / "federation",
            "BROKER": folder / "broker",
            "KITS": folder / "kits",
            "DATA": folder / "data",
            "SECRETS": folder / "secrets",
            "PLAN_DIR": folder / "plan",
            "EXAMPLES": ROOT / "docs" / "examples",
            "KIT": folder / "kits" / service,
            "HOME_DIR": folder / service,
            "WARREN_HOME": folder / service,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "METRICS_ADDRESS": "127.0.0.1",
            "RESEARCHERS": "demo",  # the others are made in the same way, and take their time
            "NODES": "cleveland",
        }
        return subprocess.Popen(
            [*said.entrypoint, *(command or said.command)],
            cwd=folder / "warren",
            env=os.environ | environment | {name: str(value) for name, value in places.items()} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return SimpleNamespace(folder=folder, start=start)


def ended(process):
    said, _ = process.communicate(timeout=DEADLINE_S)
    return process.returncode, said


def healthy(home, service):
    """Return the exit code of the health check of a node."""
    command = [str(home) if word == "/home/warren/home" else word for word in service.healthcheck.test[1:]]
    program = Path(sys.executable).parent / command[0]
    return subprocess.run([program, *command[1:]], capture_output=True, timeout=DEADLINE_S).returncode


def broker_healthy(broker, service):
    """Return the exit code of the health check of the broker."""
    _, program, *words = service.healthcheck.test
    command = [Path(find_server()).with_name(program), *words[:-1], str(broker.endpoint.port)]
    assert "5671" == words[-1]
    return subprocess.run(command, env=broker.used, capture_output=True, timeout=DEADLINE_S).returncode


def await_connection(home):
    """Wait until an agent says that it is connected."""
    pause, end = threading.Event(), time.monotonic() + DEADLINE_S
    while (status := read_status(home.status_path)) is None or not status.connected:
        assert time.monotonic() < end, status
        pause.wait(0.1)


def move_broker(path, port):
    text = path.read_text().replace('host = "rabbitmq"', 'host = "127.0.0.1"')
    path.write_text(text.replace("port = 5671", f"port = {port}"))


@pytest.mark.broker
@pytest.mark.timeout(400)  # several programs start one after the other, each with a deadline of its own
@pytest.mark.long
@pytest.mark.usefixtures("forked_processes")
def test_what_the_containers_run_makes_a_federation_whose_demo_ends_with_0(containers, trial):
    folder, start = containers.folder, containers.start
    status, said = ended(start("provision"))
    assert 0 == status, said
    secrets = {path.name: path for path in (folder / "secrets").rglob("*") if path.is_file()}
    assert secrets.keys() == {"token", "login", "metrics_password", "admin_password"}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in secrets.values()}
    drawn = {path.read_text() for path in secrets.values()}
    assert all(len(one) >= 48 for one in drawn)
    assert len(drawn) == len(secrets)
    assert ended(start("provision")) == (0, "")
    assert drawn == {path.read_text() for path in secrets.values()}

    port, nodes = free_port(), ("cleveland",)
    move_broker(folder / "federation" / "federation.toml", port)
    for kit in (folder / "kits").iterdir():
        assert 'host = "rabbitmq"' in (kit / "connection.toml").read_text()
        move_broker(kit / "connection.toml", port)
    with contextlib.ExitStack() as stack:
        broker = ComposeBroker(Federation.load(folder / "federation"), disposable=True)
        broker.files, broker.environment = folder / "broker", trial.services["rabbitmq"].environment
        stack.callback(broker.stop)
        broker.start()
        assert 0 == broker_healthy(broker, trial.services["rabbitmq"])
        for node in nodes:
            home = NodeHome.create(folder / node, folder / "kits" / node)
            home.settings_path.write_text("worker_threads = 1\ncompulsory_protections = []\n")
            assert 1 == healthy(folder / node, trial.services[node])
            agent = stack.enter_context(start(node))
            stack.callback(agent.terminate)
            assert any("runs; Ctrl-C stops it" in line for line in agent.stdout)
        for node in nodes:
            await_connection(NodeHome.open(folder / node))
            assert 0 == healthy(folder / node, trial.services[node])
        status, said = ended(start("demo"))
        assert 0 == status, said
    registry = Registry(NodeHome.open(folder / "cleveland").registry_path)
    assert ["heart"] == [dataset.name for dataset in registry.list()]
    registry.close()
