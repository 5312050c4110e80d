"""A private RabbitMQ starts, says what is wrong when it does not, and leaves nothing behind."""

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from pika import BasicProperties
from pika.exceptions import AMQPConnectionError

from common.errors import (
    BrokerMissingError,
    BrokerRunningError,
    BrokerStartError,
    BrokerStoppedError,
    PortTakenError,
)
from common.settings import Timeouts
from deploy.broker import SERVER_VARIABLE, PrivateBroker
from deploy.endpoint import running_endpoint
from deploy.federation import Federation
from deploy.ports import Reservation
from tests.faults.aftermath import wait_until
from tests.support.broker import RunningFederation, populate

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

WARREN = (sys.executable, "-c", "from deploy.cli import app; app()")


@pytest.fixture
def federation(tmp_path):
    federation = Federation.create(tmp_path / "heart", "heart")
    populate(federation, ("alice",), ("north",))
    return federation


def processes_of(federation):
    """Return the ids of all processes that were started with this federation's folder in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={federation.path}/broker".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def publish(running, body):
    connection = running.connect("north")
    channel = connection.channel()
    channel.confirm_delivery()
    properties = BasicProperties(delivery_mode=2, user_id="north")
    channel.basic_publish("out.north", "alice.control", body, properties, mandatory=True)
    connection.close()


def leaves_nothing(federation):
    """Wait until no process of a broker that has ended is left; helpers of the server end by themselves, right after it."""
    wait_until(lambda: not processes_of(federation), "no process of the broker is left")


def test_what_was_confirmed_survives_a_kill_and_who_was_revoked_meanwhile_stays_out(federation):
    broker = PrivateBroker(federation)
    assert running_endpoint(federation) is None
    broker.start()
    try:
        running = RunningFederation(federation, broker.endpoint)
        assert broker.endpoint == running_endpoint(federation)
        with pytest.raises(BrokerRunningError, match=str(broker.endpoint.pid)):
            PrivateBroker(federation).start()
        publish(running, b"confirmed")
        north = running.kit("north")
        os.kill(broker.endpoint.pid, signal.SIGKILL)
        with pytest.raises(BrokerStoppedError, match=r"-9"):
            broker.wait()
    finally:
        broker.kill()
    leaves_nothing(federation)
    assert running_endpoint(federation) is None

    federation.add("south", "node")
    with PrivateBroker(federation, disposable=True) as again:
        running = RunningFederation(federation, again.endpoint)
        assert 1 == running.depth("inbox.alice.north.control")
        running.connect("south").close()
    leaves_nothing(federation)

    federation.revoke("north")
    again = PrivateBroker(federation, disposable=True)
    again.launch()
    Federation.load(federation.path).add("west", "node")  # by another process, while the broker boots
    with again:
        running = RunningFederation(federation, again.endpoint)
        names = running.admin.names()
        assert "north" not in names.users
        assert "west" in names.users
        assert not [queue for queue in names.queues if "north" in queue]
        with pytest.raises(AMQPConnectionError):
            running.connect("alice", context=north.ssl_context())
    leaves_nothing(federation)


def start_program(*arguments):
    return subprocess.Popen((*WARREN, *map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def warren(*arguments):
    done = subprocess.run(
        (*WARREN, *map(str, arguments), "--json"), capture_output=True, text=True, timeout=60
    )
    assert "" == done.stderr
    return json.loads(done.stdout)


def read_document(process, deadline_s):
    """Return the JSON document that a process prints before it goes on."""
    printed = b""
    while select.select([process.stdout], [], [], deadline_s)[0]:
        piece = os.read(process.stdout.fileno(), 65536)
        assert piece, process.stderr.read()
        printed += piece
        with suppress(ValueError):
            return json.loads(printed)
    raise AssertionError("nothing was printed in time")


def test_the_command_runs_a_broker_that_follows_changes_until_it_is_told_to_stop(federation):
    process = start_program("broker", "start", federation.path, "--json")
    try:
        told = read_document(process, 120)
        assert ("localhost", federation.settings.port) == (told["host"], told["port"])
        assert warren("federation", "show", federation.path)["broker_running"]

        added = warren("federation", "add-node", federation.path, "east")
        running = RunningFederation(Federation.load(federation.path), running_endpoint(federation))
        running.connect("east").close()
        assert {"party": "east", "role": "node", "broker_running": True}.items() <= added.items()
        assert 1 == running.depth("inbox.north.registrar.control")

        assert warren("federation", "revoke", federation.path, "east")["broker_running"]
        assert "east" not in running.admin.names().users

        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (0, b"") == (process.returncode, errors)
    assert b"" == output
    leaves_nothing(federation)
    assert running_endpoint(federation) is None


def test_without_rabbitmq_the_error_says_what_to_install(federation, monkeypatch):
    monkeypatch.setenv(SERVER_VARIABLE, "/nowhere/rabbitmq-server")
    with pytest.raises(BrokerMissingError, match="/nowhere/rabbitmq-server") as missing:
        PrivateBroker(federation).start()

    assert "apt-get install" in missing.value.advice


def test_a_taken_port_is_named_and_nothing_is_started(federation):
    with Reservation() as other:
        other.take(federation.settings.port)
        other._held[0].listen()
        with pytest.raises(PortTakenError, match=str(federation.settings.port)):
            PrivateBroker(federation).start()

    leaves_nothing(federation)


def fake_server(folder, monkeypatch, script):
    server = folder / "rabbitmq-server"
    server.write_text(f"#!/bin/sh\n{script}\n")
    server.chmod(0o755)
    monkeypatch.setenv(SERVER_VARIABLE, str(server))


def test_a_broker_that_ends_while_it_boots_is_an_error_that_names_the_log(federation, tmp_path, monkeypatch):
    fake_server(tmp_path, monkeypatch, "exit 3")
    broker = PrivateBroker(federation)
    with pytest.raises(BrokerStartError, match="status 3") as failure:
        broker.start()

    assert str(broker.log) in failure.value.advice
    leaves_nothing(federation)
    with pytest.raises(BrokerStartError):  # and not BrokerRunningError
        broker.start()


def test_a_crash_of_the_broker_is_dumped_beside_its_log_and_never_where_the_person_stands(
    federation, tmp_path, monkeypatch
):
    fake_server(tmp_path, monkeypatch, 'echo "$ERL_CRASH_DUMP" > "$RABBITMQ_LOG_BASE/asked"; exit 3')
    broker = PrivateBroker(federation)
    with pytest.raises(BrokerStartError):
        broker.start()

    assert f"{broker.log.parent}/erl_crash.dump\n" == (broker.log.parent / "asked").read_text()


def test_a_broker_that_never_gets_ready_is_killed_at_the_deadline(federation, tmp_path, monkeypatch):
    fake_server(tmp_path, monkeypatch, "exec sleep 1000")
    with pytest.raises(BrokerStartError, match="within 0"):
        PrivateBroker(federation, timeouts=Timeouts(worker_start_s=0.2)).start()

    leaves_nothing(federation)


def test_the_broker_dies_with_a_parent_that_is_killed(federation, tmp_path, monkeypatch):
    fake_server(tmp_path, monkeypatch, "exec sleep 1000")
    script = f"""
from pathlib import Path
from deploy.broker import PrivateBroker
from deploy.federation import Federation
broker = PrivateBroker(Federation.load(Path({str(federation.path)!r})))
broker.launch()
print("launched", flush=True)
input()
"""
    parent = subprocess.Popen(
        (sys.executable, "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert "launched\n" == parent.stdout.readline()
    children = [os.pidfd_open(child) for child in processes_of(federation)]
    assert len(children) == 2
    parent.kill()
    parent.communicate()

    for child in children:
        assert select.select([child], [], [], 30)[0], "a child outlived its parent"
        os.close(child)
    assert running_endpoint(federation) is None


def test_secrets_of_the_broker_are_readable_by_their_owner_only(broker):
    folder = broker.federation.path / "broker"
    for name in ("running.json", "definitions.json", "server.key", "home/.erlang.cookie"):
        assert 0 == (folder / name).stat().st_mode & 0o077, name
