"""A node whose broker is away or will not have it: the agent runs on, keeps trying, and says why once."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from deploy.federation import Federation
from node.cli import app
from node.home import NodeHome
from node.process import report, start_background, stop
from tests.support.certificates import make_authority
from tests.support.parties import make_kit
from tests.support.proxy import Proxy

pytestmark = pytest.mark.broker

DEADLINE_S = 60
NEVER = threading.Event()


def home_of(kit, folder, port):
    """Make a home that dials a port of the loopback and does not wait long between attempts."""
    home = NodeHome.create(folder, kit)
    settings = home.kit_path / "connection.toml"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("port")]
    lines.insert(0, f"port = {port}")
    settings.write_text(
        "\n".join([*lines, "", "[timeouts]", "reconnect_first_s = 0.05", "reconnect_max_s = 0.1", ""])
    )
    return home


@contextmanager
def running(home):
    process = start_background(home)
    try:
        yield
    finally:
        assert stop(home) == "stopped"
        process.wait(DEADLINE_S)


def until(home, condition):
    """Wait until what `warren-node status` shows is as wanted, and return it."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = report(home)
        if found.status is not None and condition(found.status):
            return found.status
        NEVER.wait(0.05)
    raise AssertionError(f"it stayed at {report(home)}")


def complaints(home):
    lines = [json.loads(line) for line in home.log_path.read_text().splitlines()]
    return [line["error"] for line in lines if line["message"].startswith("no connection to the broker")]


def test_a_node_keeps_trying_says_so_once_and_connects_when_the_broker_is_there(make_federation, tmp_path):
    trial = make_federation(nodes=("north",))
    line = Proxy(trial.endpoint.port)
    line.refuse()
    home = home_of(trial.kit_path("north"), tmp_path / "north", line.port)
    try:
        with running(home):
            until(home, lambda status: "WRN-201" in status.detail)
            line.await_refusals(8)
            assert len(complaints(home)) == 1

            line.accept()

            until(home, lambda status: status.connected)
            shown = CliRunner().invoke(app, ["status", str(home.path)]).stdout
            assert "broker:    connected since" in shown
    finally:
        line.close()


def test_a_node_with_the_kit_of_another_federation_says_that_its_authority_is_unknown(broker, tmp_path):
    other = Federation.create(tmp_path / "other", "other", port=broker.endpoint.port)
    home = home_of(other.add("north", "node"), tmp_path / "north", broker.endpoint.port)

    with running(home):
        status = until(home, lambda status: "WRN-303" in status.detail)

    assert not status.connected
    assert "did not sign" in status.detail
    assert len(complaints(home)) == 1


def test_a_node_that_is_revoked_while_it_runs_says_that_it_was_refused(make_federation, tmp_path):
    trial = make_federation(nodes=("north",))
    home = home_of(trial.kit_path("north"), tmp_path / "north", trial.endpoint.port)

    with running(home):
        until(home, lambda status: status.connected)
        trial.revoke("north")
        status = until(home, lambda status: "WRN-202" in status.detail)

    assert not status.connected
    assert "refused north" in status.detail


def test_a_port_for_metrics_that_is_taken_is_named_before_the_node_says_that_it_runs(tmp_path):
    authority = make_authority()
    home = NodeHome.create(tmp_path / "north", make_kit(tmp_path / "kit", authority))
    with socket.create_server(("127.0.0.1", 0)) as other:
        home.settings_path.write_text(f"metrics_port = {other.getsockname()[1]}\n")
        result = CliRunner().invoke(app, ["start", str(home.path), "--background", "--json"])

    error = json.loads(result.stdout)["error"]
    assert error["code"] == "WRN-315"
    assert "WRN-318: port" in error["text"]
    assert home.holder() is None
