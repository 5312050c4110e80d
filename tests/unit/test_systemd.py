"""The systemd units start what exists, lock it down, and please systemd's own tool where that is installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.reference import command_lines, commands

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))
WORDS = {words for program, app in command_lines().items() for words, _ in commands(app, program)}
ALWAYS = {
    "User": "warren",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "CapabilityBoundingSet": "",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
    "Restart": "on-failure",
    "KillMode": "mixed",
}


def settings(unit):
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))


def test_there_is_a_unit_for_a_node_and_one_for_a_broker():
    assert ["warren-broker@.service", "warren-node@.service"] == [unit.name for unit in UNITS]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_exists_as_a_user_that_may_do_little(unit):
    said = settings(unit)
    program, *words = said["ExecStart"].split()

    assert " ".join([Path(program).name, *words[:-1]]) in WORDS
    assert words[-1] == f"/var/lib/{said['StateDirectory']}"
    assert ALWAYS == {name: said[name] for name in ALWAYS}


def test_a_node_opens_no_port_and_its_workers_may_still_put_up_their_walls():
    said = settings(next(unit for unit in UNITS if "node" in unit.name))

    assert "any" == said["SocketBindDeny"]
    assert "RestrictNamespaces" not in said
    assert said["SystemCallFilter"].startswith("~")
    assert not {"@sandbox", "@mount", "@process"} & set(said["SystemCallFilter"].removeprefix("~").split())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_about_a_unit(unit, tmp_path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return  # the other tests hold everywhere
    programs = Path(sys.executable).parent
    text = unit.read_text().replace("/opt/warren/bin", str(programs))
    text = re.sub(r"^(User|Group)=warren$", r"\1=daemon", text, flags=re.MULTILINE)
    placed = tmp_path / unit.name.replace("@", "@trial")
    placed.write_text(text)

    done = subprocess.run(
        [tool, "verify", "--recursive-errors=no", placed], capture_output=True, text=True, timeout=60
    )

    assert (0, []) == (done.returncode, [line for line in done.stderr.splitlines() if placed.name in line])
