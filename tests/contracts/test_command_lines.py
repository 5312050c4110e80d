"""Programs can call every command: `--json` gives one JSON document on standard output, whatever happens."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.broker import SERVER_VARIABLE
from deploy.federation import Federation
from deploy.reference import command_lines, commands
from node.home import NodeHome
from researcher.home import Home

COMMANDS = {
    words: command for program, app in command_lines().items() for words, command in commands(app, program)
}

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PLAN = """
from common.training_plans import TorchTrainingPlan


class Plan(TorchTrainingPlan):
    def init_model(self, model_args):
        raise AssertionError("no command runs a plan")

    def training_step(self, data, target):
        raise AssertionError("no command runs a plan")

    def training_data(self):
        raise AssertionError("no command runs a plan")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A federation whose broker is not there, with one node and one researcher."""
    folder = tmp_path_factory.mktemp("commands")
    federation = Federation.create(folder / "federation", "trial", port=5671)
    federation.add("gone", "node")
    (folder / "heart.csv").write_text("age,chol\n63,233\n41,250\n")
    (folder / "plan.py").write_text(PLAN)
    (folder / "kit-of-north").symlink_to(federation.add("north", "node"))
    (folder / "kit-of-lab").symlink_to(federation.add("lab", "researcher"))
    for kit in ("kit-of-north", "kit-of-lab", "federation/kits/registrar"):
        with (folder / kit / "connection.toml").open("a") as settings:
            settings.write("\n[timeouts]\nconnect_s = 0.1\n")
    NodeHome.create(folder / "north", folder / "kit-of-north")
    Home.init(folder / "lab", folder / "kit-of-lab")
    return folder


ANSWERED = {
    "warren errors": "",
    "warren data": "{folder}/data",
    "warren docs": "{folder}/reference",
    "warren federation init": "{folder}/another --port 0",
    "warren federation add-node": "{folder}/federation south",
    "warren federation add-researcher": "{folder}/federation bob",
    "warren federation renew": "{folder}/federation gone",
    "warren federation revoke": "{folder}/federation gone",
    "warren federation show": "{folder}/federation",
    "warren broker definitions": "{folder}/federation --out {folder}/definitions",
    "warren-node enroll": "{folder}/enrolled-node --id east --federation trial",
    "warren-researcher enroll": "{folder}/enrolled-lab --id carol --federation trial",
    "warren-node init": "{folder}/other-north --kit {folder}/kit-of-north",
    "warren-node status": "{folder}/north",
    "warren-node stop": "{folder}/north",
    "warren-node logs": "{folder}/north",
    "warren-node dataset add": "{folder}/north --path {folder}/heart.csv --name heart --tags ct,uci --description heart",
    "warren-node dataset list": "{folder}/north",
    "warren-node dataset show": "{folder}/north heart",
    "warren-node dataset check": "{folder}/north",
    "warren-node dataset preview": "{folder}/north heart --rows 1",
    "warren-node dataset update": "{folder}/north heart --tags ct,2024",
    "warren-node loading save": "{folder}/north tables --of heart",
    "warren-node loading list": "{folder}/north",
    "warren-node loading show": "{folder}/north tables",
    "warren-node loading remove": "{folder}/north tables",
    "warren-node dataset remove": "{folder}/north heart",
    "warren-node plan list": "{folder}/north",
    "warren-node task list": "{folder}/north --past 5",
    "warren-node plan approve": "{folder}/north --file {folder}/plan.py",
    "warren-node policy show": "{folder}/north",
    "warren-node policy check": "{folder}/north",
    "warren-node policy replace": "{folder}/north {folder}/north/policy.toml",
    "warren-node audit show": "{folder}/north",
    "warren-node audit verify": "{folder}/north",
    "warren-node audit export": "{folder}/north {folder}/audit.jsonl",
    "warren-researcher init": "{folder}/other-lab --kit {folder}/kit-of-lab",
    "warren-researcher plan": "{examples}/heart.toml",
    "warren-researcher experiments": "--home {folder}/lab",
    "warren-researcher status": "--home {folder}/lab",
    "warren-researcher audit show": "{folder}/lab",
    "warren-researcher audit verify": "{folder}/lab",
    "warren-researcher audit export": "{folder}/lab {folder}/lab-audit.jsonl",
}
"""What each command is called with to do its work, in an order in which they find what they need."""

REFUSED = {
    "warren federation announce": ("{folder}/federation", "WRN-201"),
    "warren federation sign": ("{folder}/federation {folder}/nothing.json --fingerprint X", "WRN-319"),
    "warren dead list": ("{folder}/federation", "WRN-201"),
    "warren dead show": ("{folder}/federation 0123456789ab", "WRN-201"),
    "warren dead requeue": ("{folder}/federation --all", "WRN-201"),
    "warren dead drop": ("{folder}/federation 0123456789ab", "WRN-201"),
    "warren broker start": ("{folder}/federation", "WRN-312"),
    "warren-node start": ("{folder}/nothing", "WRN-311"),
    "warren-node gui": ("{folder}/nothing", "WRN-311"),
    "warren-node dataset fetch": ("imagenet {folder}/new", "WRN-416"),
    "warren-node plan show": ("{folder}/north ffff", "WRN-505"),
    "warren-node plan reject": ("{folder}/north ffff", "WRN-505"),
    "warren-node task cancel": ("{folder}/north ffff", "WRN-612"),
    "warren-researcher run": ("{folder}/heart.toml --home {folder}/lab", "WRN-201"),
    "warren-researcher sweep": (
        "{folder}/heart.toml --vary num_updates=1,2 --home {folder}/lab",
        "WRN-201",
    ),
    "warren-researcher cross-validate": ("{folder}/heart.toml --folds 3 --home {folder}/lab", "WRN-201"),
    "warren-researcher resume": ("{folder}/nothing --home {folder}/lab", "WRN-707"),
    "warren-researcher nodes": ("--home {folder}/lab", "WRN-201"),
    "warren-researcher datasets": ("--home {folder}/lab", "WRN-201"),
    "warren-researcher export": ("{folder}/nothing {folder}/model", "WRN-707"),
    "warren-researcher branch": ("{folder}/nothing {folder}/new", "WRN-707"),
    "warren-researcher replay": ("{folder}/nothing --round 1", "WRN-707"),
    "warren-researcher watch": ("{folder}/nothing --home {folder}/lab", "WRN-707"),
    "warren-researcher quarantine": ("{folder}/nothing", "WRN-707"),
    "warren-researcher cancel": ("{folder}/nothing --home {folder}/lab", "WRN-707"),
}
"""What each other command is called with, and the error that it meets without a broker, a RabbitMQ or a plan."""

ELSEWHERE = {
    "warren-node restart": "tests/integration/test_node_cli.py",
    "warren demo": "tests/e2e/test_demo.py",
    "warren doctor": "tests/integration/test_doctor.py",
    "warren-node doctor": "tests/integration/test_doctor.py",
    "warren-researcher doctor": "tests/integration/test_doctor.py",
}


def called(words, arguments, folder):
    program, *rest = words.split()
    line = [*rest, *arguments.format(folder=folder, examples=EXAMPLES).split(), "--json"]
    return CliRunner().invoke(command_lines()[program], line)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_takes_json(words):
    assert "--json" in [option for parameter in COMMANDS[words].params for option in parameter.opts]


def test_every_command_is_tried():
    assert COMMANDS.keys() == ANSWERED.keys() | REFUSED.keys() | ELSEWHERE.keys()


def test_what_a_command_prints_is_one_json_document(folder):
    for words, arguments in ANSWERED.items():  # in order, for one needs what another made
        result = called(words, arguments, folder)
        assert 0 == result.exit_code, f"{words}: {result.output}"
        assert isinstance(json.loads(result.stdout), dict | list), words


@pytest.mark.parametrize("words", REFUSED)
def test_a_failure_is_one_json_document_too(words, folder, monkeypatch):
    monkeypatch.setenv(SERVER_VARIABLE, "/nowhere/rabbitmq-server")
    arguments, code = REFUSED[words]

    result = called(words, arguments, folder)

    assert 1 == result.exit_code, result.output
    error = json.loads(result.stdout)["error"]
    assert code == error["code"]
    assert error.keys() == {"code", "text", "cause", "remedy"}
    assert all(error.values())
