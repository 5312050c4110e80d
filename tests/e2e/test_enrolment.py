"""A hospital enrols with keys of its own, works, changes them and is taken out: real processes, a real broker, the page word for word."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from node.home import NodeHome
from node.process import report
from tests.e2e.test_howto import HOW_TO, Newcomer, blocks
from tests.faults.aftermath import wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.broker, pytest.mark.usefixtures("forked_processes")]

NODE = "nodes/cleveland"


def told(newcomer, command):
    return json.loads(newcomer.types(f"{command} --json"))


def until(newcomer, command, condition, deadline_s=60):
    """Ask until it is so; each question is a process that takes its time."""
    deadline = time.monotonic() + deadline_s
    while not condition(found := told(newcomer, command)):
        assert time.monotonic() < deadline, found
    return found


def until_node(newcomer, condition):
    """Wait until the agent says so, which is read here, and see that the command tells the same."""
    home = NodeHome.open(newcomer.folder / NODE)
    wait_until(lambda: condition(report(home).status), "the agent says so")
    status = told(newcomer, f"warren-node status {NODE}")["status"]
    assert condition(SimpleNamespace(**status))
    return status


@pytest.fixture
def newcomer(tmp_path):
    return Newcomer(tmp_path)


@pytest.mark.long
def test_a_hospital_enrols_works_changes_its_keys_and_is_taken_out(newcomer):
    make, broker, ask, sign, go_on, start, renew, revoke = blocks(HOW_TO / "enroll-a-hospital.md", "sh")
    newcomer.exports.append(f'export PATH="{newcomer.folder}/.venv/bin:$PATH"')

    def enrol(before=lambda: None):
        request = told(newcomer, ask.strip())["fingerprint"]
        signed = told(newcomer, sign.replace("REQUEST", request).strip())
        assert request == signed["fingerprint"]
        before()
        newcomer.types(go_on.replace("AUTHORITY", signed["authority"]))

    def connected(status):
        return status is not None and status.connected

    def notified(status):
        return status is not None and status.notice

    with ExitStack() as cleanup:
        newcomer.types(make)
        process = newcomer.starts(broker.strip(), "The broker runs")
        cleanup.enter_context(process)
        cleanup.callback(process.terminate)
        enrol()
        cleanup.callback(newcomer.types, f"warren-node stop {NODE}")
        newcomer.types(start)
        until_node(newcomer, connected)
        newcomer.types("warren-researcher init lab --kit trial/kits/alice")
        online = "warren-researcher nodes --home lab"
        until(newcomer, online, lambda found: found["nodes"][0]["state"] == "online")
        newcomer.types(renew)

        def until_told():
            assert "start the agent again" in until_node(newcomer, notified)["notice"]
            newcomer.types(f"warren-node stop {NODE}")

        enrol(until_told)  # the agent runs with the old keys while new ones are signed for
        newcomer.types(start)
        until_node(newcomer, connected)
        until(newcomer, online, lambda found: found["nodes"][0]["state"] == "online")

        newcomer.types(revoke)
        until_node(newcomer, lambda status: not connected(status))
        shown = {one["party"]: one for one in told(newcomer, "warren federation show trial")["parties"]}
        assert ("revoked", "party") == (shown["cleveland"]["state"], shown["cleveland"]["keys_made_by"])
        assert "federation" == shown["alice"]["keys_made_by"]
