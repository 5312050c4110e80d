"""Metrics are shown on the loopback, to others only with a login, over TLS if wanted; anybody may ask whether all is well."""

import json
import ssl
import urllib.error

import pytest
from pydantic import ValidationError

from common.errors import InvalidSettingsError, PortTakenError
from common.exporter import Exporter, ExporterSettings
from node.exporter import health
from node.policy import Policy
from node.status import AgentStatus
from researcher.exporter import settings_in
from tests.support.certificates import make_authority
from tests.support.prometheus import read

LOGIN = "reader:secret"


@pytest.fixture
def serve():
    """A function that starts an exporter with these settings; it ends with the test."""
    made = []

    def start(*, healthy=True, **settings):
        made.append(Exporter(ExporterSettings(port=0, **settings), lambda: (healthy, {"connected": healthy})))
        return made[-1].port

    yield start
    for one in made:
        one.close()


def refusal(url, **how):
    with pytest.raises(urllib.error.HTTPError) as refused:
        read(url, **how)
    with refused.value as answer:
        return answer.code, answer.read()


def test_metrics_and_health_are_shown(serve):
    port = serve()

    assert b"warren_build_info" in read(f"http://127.0.0.1:{port}/metrics")
    assert {"healthy": True, "connected": True} == json.loads(read(f"http://127.0.0.1:{port}/health"))
    assert 404 == refusal(f"http://127.0.0.1:{port}/other")[0]


def test_who_is_not_well_says_so_by_status(serve):
    status, body = refusal(f"http://127.0.0.1:{serve(healthy=False)}/health")

    assert 503 == status
    assert {"healthy": False, "connected": False} == json.loads(body)


def test_only_the_right_login_reads_metrics_and_everybody_health(serve, tmp_path):
    (tmp_path / "login").write_text(LOGIN + "\n")
    port = serve(login=tmp_path / "login")

    assert b"warren_" in read(f"http://127.0.0.1:{port}/metrics", login=LOGIN)
    assert 401 == refusal(f"http://127.0.0.1:{port}/metrics")[0]
    assert 401 == refusal(f"http://127.0.0.1:{port}/metrics", login="reader:other")[0]
    assert read(f"http://127.0.0.1:{port}/health")


def test_with_a_certificate_metrics_go_over_tls(serve, tmp_path):
    authority = make_authority()
    issued = authority.issue("localhost")
    for name, content in (("ca", authority.cert_pem), ("cert", issued.cert_pem), ("key", issued.key_pem)):
        (tmp_path / name).write_bytes(content)
    port = serve(certificate=tmp_path / "cert", key=tmp_path / "key")
    context = ssl.create_default_context(cafile=tmp_path / "ca")

    assert b"warren_" in read(f"https://localhost:{port}/metrics", context=context)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        read(f"http://127.0.0.1:{port}/metrics")


def test_what_others_could_reach_needs_a_login():
    with pytest.raises(ValidationError, match="needs a login"):
        ExporterSettings(port=1, address="198.51.100.1")
    with pytest.raises(ValidationError, match="needs a login"):
        Policy(metrics_port=9108, metrics_address="192.0.2.1")
    with pytest.raises(ValidationError, match="go together"):
        Policy(metrics_port=9108, metrics_key="/key")


@pytest.mark.parametrize("content", [None, "", "name", "name:", "a:b\nc:d"])
def test_a_login_that_is_none_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "login").write_text(content)
    with pytest.raises(InvalidSettingsError):
        Exporter(ExporterSettings(port=0, login=tmp_path / "login"), lambda: (True, {}))


def test_a_certificate_that_is_none_is_refused(tmp_path):
    with pytest.raises(InvalidSettingsError):
        Exporter(
            ExporterSettings(port=0, certificate=tmp_path / "no", key=tmp_path / "no"), lambda: (True, {})
        )


def test_a_port_that_is_taken_is_named(serve):
    port = serve()
    with pytest.raises(PortTakenError):
        Exporter(ExporterSettings(port=port), lambda: (True, {}))


def test_a_researchers_settings_come_from_the_environment():
    assert settings_in({"PATH": "/bin"}) is None
    assert ExporterSettings(port=9109) == settings_in(
        {"WARREN_METRICS_PORT": "9109", "WARREN_METRICS_LOGIN": ""}
    )
    with pytest.raises(InvalidSettingsError):
        settings_in({"WARREN_METRICS_PORT": "many"})


def test_a_node_is_well_when_it_is_connected_and_does_not_pause():
    status = AgentStatus(
        party="north", pid=1, version="0", started_at=1, connected=True, detail="", changed_at=1
    )

    assert health(status)[0]
    assert not health(None)[0]
    assert not health(status.model_copy(update={"connected": False}))[0]
    assert not health(status.model_copy(update={"paused": "the disk is full"}))[0]
