"""`warren-node doctor` says what a node lacks and what to do about it."""

import contextlib
import ctypes
import json
import socket
import ssl
import threading
from importlib.metadata import version
from types import SimpleNamespace

import psutil
import pytest
from typer.testing import CliRunner

from common.doctor import clock, memory
from common.security.kit import CONNECTION, _toml
from common.settings import Connection, load_toml
from deploy.cli import app as warren_app
from deploy.ports import free_port
from node.cli import app
from node.home import NodeHome
from node.registry import Registry
from researcher.cli import app as researcher_app
from researcher.directory import NodeStatus
from researcher.doctor import _node
from researcher.home import Home
from tests.support.certificates import make_authority
from tests.support.fake_node import INFO
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


def point(home, **connection):
    """Let the kit of a home name another way to the broker."""
    path = home.kit_path / CONNECTION
    path.write_text(_toml(load_toml(path, Connection).model_copy(update=connection)))


@pytest.fixture
def connected(tmp_path, broker):
    """The home of a node whose broker lets it in."""
    home = NodeHome.create(tmp_path / "north", broker.kit_path("north"))
    home.settings_path.write_text("compulsory_protections = []\n")
    return home


def test_a_node_whose_broker_lets_it_in_is_healthy(tmp_path, connected):
    add_table(connected, tmp_path / "heart.csv")

    code, findings = examined(connected)

    assert 0 == code, findings
    steps = ("versions", "settings", "kit", "name", "tcp", "tls", "broker", "disk", "data set heart")
    assert dict.fromkeys(steps, "ok") == {one: health(findings, one) for one in steps}
    assert "a message goes there and back in" in findings["broker"]["text"]
    assert {"clock", "memory", "gpu"} <= findings.keys()


def test_looking_leaves_the_queues_as_they_were(connected, broker):
    before = broker.depths()
    for _ in range(2):
        assert 0 == examined(connected)[0]

    assert before == broker.depths()


class Fault:
    """Something that is wrong on a machine, where the doctor must see it and what the advice must name."""

    def __init__(self, subject, words, plant):
        self.subject, self.words, self.plant = subject, words, plant


def stranger(request):
    """Return the port of a server with the certificate of another federation, or of one that speaks no TLS."""
    listener = socket.create_server(("127.0.0.1", 0))
    request.addfinalizer(listener.close)
    return listener


def answer_as_stranger(home, request):
    listener = stranger(request)
    issued = make_authority("elsewhere").issue("localhost")
    folder = home.path.parent
    for name, content in (("cert", issued.cert_pem), ("key", issued.key_pem)):
        (folder / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")

    def serve():
        line, _ = listener.accept()
        with line, contextlib.suppress(OSError):
            context.wrap_socket(line, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    request.addfinalizer(thread.join)
    point(home, port=listener.getsockname()[1])


def answer_without_tls(home, request):
    listener = stranger(request)

    def serve():
        line, _ = listener.accept()
        with line:
            line.recv(1)
            line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    request.addfinalizer(thread.join)
    point(home, port=listener.getsockname()[1])


def write(text):
    return lambda home, _: home.settings_path.write_text(text)


def take_permissions(home, request):
    running = request.getfixturevalue("broker")
    admin, vhost = running.admin, running.vhost
    given = admin._call("GET", "permissions", vhost, "north")
    request.addfinalizer(lambda: admin._call("PUT", "permissions", vhost, "north", body=given))
    admin._call("PUT", "permissions", vhost, "north", body={"configure": "^$", "write": "^$", "read": "^$"})


FAULTS = {
    "the name of the broker is not known": Fault(
        "name", "connection.toml", lambda home, _: point(home, host="broker.invalid")
    ),
    "nothing listens at the broker's port": Fault(
        "tcp", "firewall", lambda home, _: point(home, port=free_port())
    ),
    "somebody else answers": Fault("tls", "another federation", answer_as_stranger),
    "a proxy speaks HTTP": Fault("tls", "plain TCP", answer_without_tls),
    "the broker took the permissions away": Fault("broker", "warren federation show", take_permissions),
    "a part of the kit is missing": Fault(
        "kit", "kit", lambda home, _: (home.kit_path / "cert.pem").unlink()
    ),
    "the kit is of a newer Warren": Fault(
        "kit",
        "upgrade Warren here",
        lambda home, _: (home.kit_path / CONNECTION).write_text(
            (home.kit_path / CONNECTION).read_text().replace("version = 1", "version = 2")
        ),
    ),
    "a setting is misspelt": Fault("settings", "correct", write("max_wrokers = 2\n")),
    "the data are gone": Fault(
        "data set heart", "dataset", lambda home, _: add_table(home, home.path.parent / "heart.csv").unlink()
    ),
    "the disk is nearly full": Fault("disk", "free some", write(f"disk_floor_bytes = {2**52}\n")),
    "a wall that must stand cannot": Fault(
        "protection cpu_time", "worker_cpu_s", write('compulsory_protections = ["cpu_time"]\n')
    ),
    "the account of workers does not exist": Fault(
        "protections", "useradd", write('worker_user = "nobody-at-all"\n')
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_of_these_faults_is_named_with_what_to_do(fault, connected, request):
    planted = FAULTS[fault]
    planted.plant(connected, request)

    code, findings = examined(connected)

    wrong = {subject: one for subject, one in findings.items() if one["health"] == "wrong"}
    assert 1 == code
    assert [planted.subject] == list(wrong)
    assert planted.words in wrong[planted.subject]["advice"]


def test_everything_that_is_wrong_is_found_at_once(tmp_path, home):
    add_table(home, tmp_path / "heart.csv").unlink()
    point(home, port=free_port())
    home.settings_path.write_text(f'compulsory_protections = ["cpu_time"]\ndisk_floor_bytes = {2**52}\n')

    code, findings = examined(home)

    assert 1 == code
    wrong = {subject for subject, finding in findings.items() if finding["health"] == "wrong"}
    assert {"tcp", "disk", "data set heart", "protection cpu_time"} == wrong
    assert all(findings[subject]["advice"] for subject in wrong)


def test_a_researcher_and_an_operator_have_doctors_too(tmp_path, broker):
    Home.init(tmp_path / "lab", broker.kit_path("alice"))

    lab = CliRunner().invoke(researcher_app, ["doctor", "--home", str(tmp_path / "lab"), "--json"])
    operator = CliRunner().invoke(warren_app, ["doctor", str(broker.federation.path), "--json"])

    found = {one["subject"]: one["health"] for one in json.loads(lab.stdout)["findings"]}
    assert (0, "ok", "ok", "note") == (lab.exit_code, found["broker"], found["kit"], found["node north"])
    found = {one["subject"]: one["health"] for one in json.loads(operator.stdout)["findings"]}
    assert (0, "ok", "ok") == (operator.exit_code, found["broker"], found["authority"])


@pytest.mark.parametrize(("ahead_s", "health"), [(0.0, "ok"), (-60.0, "wrong"), (60.0, "wrong")])
def test_a_node_whose_clock_is_wrong_is_told_of(ahead_s, health):
    info = INFO.model_copy(update={"version": version("warren-fl")})
    status = NodeStatus("north", online=True, info=info, ahead_s=ahead_s)

    assert health == _node(status, status).health


def test_a_node_of_another_version_is_noted():
    status = NodeStatus("north", online=True, info=INFO.model_copy(update={"version": "0.0.9"}), ahead_s=0.0)

    found = _node(status, status)
    assert "note" == found.health
    assert "0.0.9" in found.text
    assert "upgrade the older side" in found.advice


def test_too_little_memory_is_noted(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30))
    short = memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**33))

    assert ("note", "1.0 GiB free") == (short.health, short.text)
    assert "2 GiB for each worker" in short.advice
    assert "ok" == memory().health


@pytest.mark.parametrize(("state", "health"), [(0, "ok"), (5, "note")])
def test_a_clock_that_nothing_keeps_right_is_noted(monkeypatch, state, health):
    kernel = SimpleNamespace(adjtimex=lambda _: state)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: kernel)

    found = clock()
    assert health == found.health
    assert ("chrony" in found.advice) == (health == "note")


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
    point(home, port=free_port())
    result = CliRunner().invoke(app, ["doctor", str(home.path)])

    assert 1 == result.exit_code
    assert "wrong  tcp: no connection to 127.0.0.1" in result.stdout
    assert "what to do:" in result.stdout
    assert "ok     protection privileges" in result.stdout


def test_a_gpu_that_is_offered_and_not_there_is_noted(home):
    home.settings_path.write_text('compulsory_protections = []\ngpu = "offer"\ngpu_device = 255\n')

    _, findings = examined(home)

    assert "note" == health(findings, "gpu")
    assert "gpu_device" in findings["gpu"]["advice"]
