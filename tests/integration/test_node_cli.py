import json
import os
import pty
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli import app
from node.home import NodeHome
from node.process import report, start_background, stop
from tests.support.certificates import make_authority
from tests.support.parties import make_kit

WARREN_NODE = Path(sys.executable).with_name("warren-node")
DEADLINE_S = 60


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture(scope="module")
def kit(authority, tmp_path_factory):
    """The kit of a node whose broker never answers."""
    return make_kit(tmp_path_factory.mktemp("kits") / "north", authority)


@pytest.fixture
def home(tmp_path, kit):
    return NodeHome.create(tmp_path / "home", kit)


@pytest.fixture
def agent(home):
    process = start_background(home)
    yield process
    process.kill()
    process.wait(DEADLINE_S)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "heart.csv"
    path.write_text("age,chol\n63,233.5\n41,\n")
    return path


def warren_node(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answered(*arguments):
    result = warren_node(*arguments, "--json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def failed(*arguments):
    result = warren_node(*arguments, "--json")
    assert 1 == result.exit_code, result.output
    return json.loads(result.stdout)["error"]


def added(home, table, *, name="heart", tags="heart,uci"):
    options = ["--path", table, "--name", name, "--tags", tags, "--description", "heart disease"]
    return answered("dataset", "add", home.path, *options)


def test_a_home_is_made_from_a_kit(tmp_path, kit):
    made = answered("init", tmp_path / "home", "--kit", kit)
    assert ("north", "trial") == (made["party"], made["federation"])


def test_each_wrong_kit_or_path_has_its_code(tmp_path, kit, authority):
    lab = make_kit(tmp_path / "lab", authority, party="lab")
    expired = make_kit(tmp_path / "expired", authority, days=-1)
    assert "WRN-301" == failed("init", tmp_path / "home", "--kit", tmp_path / "nothing")["code"]
    assert "WRN-301" == failed("init", tmp_path / "home", "--kit", lab)["code"]
    assert "WRN-302" == failed("init", tmp_path / "home", "--kit", expired)["code"]
    assert "WRN-311" == failed("init", tmp_path, "--kit", kit)["code"]
    assert "WRN-311" == failed("dataset", "list", tmp_path / "nowhere")["code"]


def test_an_error_says_what_happened_why_and_what_to_do(tmp_path):
    result = warren_node("status", tmp_path)
    assert 1 == result.exit_code
    assert "WRN-311" in result.stderr
    assert "cause:" in result.stderr
    assert "remedy:" in result.stderr
    assert "" == result.stdout


def test_a_data_set_is_added_listed_shown_and_removed(home, table):
    dataset = added(home, table)
    assert (2, ["heart", "uci"], str(table)) == (dataset["samples"], dataset["tags"], dataset["path"])
    assert [dataset] == answered("dataset", "list", home.path)
    assert dataset == answered("dataset", "show", home.path, "heart")
    answered("dataset", "remove", home.path, dataset["dataset_id"])
    assert [] == answered("dataset", "list", home.path)
    assert table.exists()


def test_people_see_tables(home, table):
    added(home, table)
    assert "heart, uci" in warren_node("dataset", "list", home.path).stdout
    shown = warren_node("dataset", "show", home.path, "heart").stdout
    assert "chol" in shown
    assert "Float64" in shown


def test_what_is_missing_is_named_when_nobody_can_be_asked(home, table):
    error = failed("dataset", "add", home.path, "--path", table)
    assert "WRN-409" == error["code"]
    assert "--name, --tags, --description" in error["text"]


def test_what_is_missing_is_asked_for_at_a_terminal(home, table):
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [WARREN_NODE, "dataset", "add", home.path, "--path", table],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.write(terminal, b"heart\nheart,uci\nheart disease\n")
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
        assert 0 == process.wait(DEADLINE_S), shown
    os.close(terminal)
    assert ["heart", "uci"] == answered("dataset", "show", home.path, "heart")["tags"]


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_bad_data_has_its_codes(home, table, tmp_path):
    added(home, table)
    options = ["--tags", "other", "--description", "another set"]
    assert (
        "WRN-406"
        == failed(
            "dataset",
            "add",
            home.path,
            "--path",
            table,
            "--name",
            "again",
            "--tags",
            "heart",
            "--description",
            "set",
        )["code"]
    )
    assert (
        "WRN-401"
        == failed("dataset", "add", home.path, "--path", tmp_path / "gone.csv", "--name", "again", *options)[
            "code"
        ]
    )
    home.settings_path.write_text("minimum_samples = 3\n")
    assert (
        "WRN-408" == failed("dataset", "add", home.path, "--path", table, "--name", "again", *options)["code"]
    )
    assert "WRN-407" == failed("dataset", "show", home.path, "nothing")["code"]
    table.write_text("age\n1\n")
    assert "WRN-402" == failed("dataset", "show", home.path, "heart")["code"]


def test_a_plan_is_approved_shown_and_rejected_by_the_beginning_of_its_hash(home, tmp_path):
    file = tmp_path / "plan.py"
    file.write_text("class Helper: ...\n\nclass HeartPlan:\n    ready = True\n")
    approved = answered("plan", "approve", home.path, "--file", file, "--note", "read it")
    assert ("HeartPlan", "approved", "read it") == tuple(
        approved[key] for key in ("name", "state", "decision_note")
    )
    prefix = approved["plan_hash"][:8]
    assert file.read_text() == answered("plan", "show", home.path, prefix)["source"]
    assert "4      ready = True" in warren_node("plan", "show", home.path, prefix).stdout
    answered("plan", "reject", home.path, prefix, "--note", "second thoughts")
    assert ["rejected"] == [plan["state"] for plan in answered("plan", "list", home.path)]
    assert ["pending", "approved", "rejected"] == [
        step["state"] for step in answered("plan", "show", home.path, prefix)["history"]
    ]


def test_what_a_source_tries_to_hide_is_shown(home, tmp_path):
    file = tmp_path / "plan.py"
    file.write_text("class P:\n    a = 1  # \u202e\x1b[2K hidden\n", encoding="utf-8")
    prefix = answered("plan", "approve", home.path, "--file", file)["plan_hash"]
    shown = warren_node("plan", "show", home.path, prefix).stdout
    assert "\\u{202e}\\u{1b}[2K hidden" in shown
    assert "\u202e" not in shown


def test_plans_that_cannot_be_decided_have_their_codes(home, tmp_path):
    (tmp_path / "no.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("class (\n")
    for name in ("no.py", "broken.py", "missing.py"):
        assert "WRN-502" == failed("plan", "approve", home.path, "--file", tmp_path / name)["code"]
    assert "WRN-505" == failed("plan", "approve", home.path, "abc123")["code"]
    assert 2 == warren_node("plan", "approve", home.path).exit_code


def test_a_home_without_an_agent_says_so(home, table):
    added(home, table)
    found = answered("status", home.path)
    assert (None, None, 1, 0) == (found["pid"], found["status"], found["datasets"], found["plans_pending"])
    assert "no agent runs" in warren_node("status", home.path).stdout
    assert "was not running" == answered("stop", home.path)["outcome"]


def test_a_status_tells_of_an_expired_kit_instead_of_failing(tmp_path, authority, home):
    expired = make_kit(tmp_path / "expired", authority, days=-1)
    home.kit_path.rename(tmp_path / "old")
    expired.rename(home.kit_path)
    assert "WRN-302" in answered("status", home.path)["kit_problem"]
    assert "WRN-302" == failed("start", home.path, "--background")["code"]


def test_an_agent_in_the_background_outlives_its_starter_and_stops_when_asked(home):
    starter = subprocess.run(
        [WARREN_NODE, "start", home.path, "--background", "--json"], stdout=subprocess.PIPE, check=True
    )
    started = json.loads(starter.stdout)
    try:
        found = answered("status", home.path)
        assert (started["pid"], "north") == (found["pid"], found["status"]["party"])
        assert found["status"]["connected"] is False
        restarted = subprocess.run(
            [WARREN_NODE, "restart", home.path, "--json"], stdout=subprocess.PIPE, check=True
        )
        again = json.loads(restarted.stdout)
        assert "stopped" == again["outcome"]
        assert again["pid"] == answered("status", home.path)["pid"] != started["pid"]
    finally:
        assert "stopped" == answered("stop", home.path)["outcome"]
    assert home.holder() is None
    actions = [line.get("action") for line in answered("logs", home.path)]
    assert 2 * ["agent_start", "stop_asked", "agent_stopped"] == [
        action for action in actions if action in {"agent_start", "stop_asked", "agent_stopped"}
    ]


def test_a_second_agent_is_refused_and_the_first_goes_on(home, agent):
    error = failed("start", home.path, "--background")
    assert ("WRN-310", True) == (error["code"], str(agent.pid) in error["text"])
    foreground = subprocess.run(
        [WARREN_NODE, "start", home.path], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (1, True) == (foreground.returncode, "WRN-310" in foreground.stderr)
    assert agent.pid == report(home).pid


def test_an_agent_that_does_not_stop_is_killed_and_the_person_is_told(home, agent):
    agent.send_signal(signal.SIGSTOP)
    settings = home.kit_path / "connection.toml"
    settings.write_text(settings.read_text() + "\n[timeouts]\nstop_s = 0.01\n")
    assert "killed" == stop(home)
    assert -signal.SIGKILL == agent.wait(DEADLINE_S)


def test_a_start_that_fails_says_why(home):
    home.journal_path.write_bytes(b"this is no journal")
    error = failed("start", home.path, "--background")
    assert "WRN-315" == error["code"]
    assert "WRN-801" in error["text"]
    assert home.holder() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_agent_in_the_foreground_ends_at_a_signal(home, number):
    with subprocess.Popen(
        [WARREN_NODE, "start", home.path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert "the agent of north runs" in process.stdout.readline()
        process.send_signal(number)
        assert 0 == process.wait(DEADLINE_S)
    assert home.holder() is None


def test_wrong_settings_are_all_named_before_anything_starts(home):
    home.settings_path.write_text("max_workers = 0\nmax_wokers = 2\n")
    error = failed("start", home.path, "--background")
    assert "WRN-901" == error["code"]
    assert "max_workers" in error["text"]
    assert "max_wokers" in error["text"]


def test_the_end_of_the_log_can_be_read(home):
    assert [] == answered("logs", home.path)
    home.log_path.write_text('{"message": "one"}\n{"message": "two"}\n')
    assert [{"message": "two"}] == answered("logs", home.path, "--lines", "1")
    assert '{"message": "one"}\n{"message": "two"}\n' == warren_node("logs", home.path).stdout


def test_the_log_can_be_followed_from_before_it_begins_and_across_its_rotation(home):
    command = (WARREN_NODE, "logs", home.path, "--follow", "--json")
    lines = queue.Queue()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        reader = threading.Thread(target=lambda: [lines.put(line) for line in following.stdout])
        reader.start()
        home.log_path.write_text('{"message": "one"}\n')
        assert '{"message": "one"}\n' == lines.get(timeout=DEADLINE_S)
        home.log_path.rename(home.log_path.with_suffix(".1"))
        home.log_path.write_text('{"message": "two"}\n')
        assert '{"message": "two"}\n' == lines.get(timeout=DEADLINE_S)
        following.send_signal(signal.SIGINT)
        assert 130 == following.wait(DEADLINE_S)
        reader.join(DEADLINE_S)
    assert not reader.is_alive()  # nor is the program that read for it


def test_help_needs_none_of_the_slow_parts():
    program = (
        "import sys; from typer.testing import CliRunner; from node.cli import app\n"
        "assert 0 == CliRunner().invoke(app, ['--help']).exit_code\n"
        "slow = {'torch', 'polars', 'numpy', 'pika', 'cryptography', 'common.messages'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=DEADLINE_S)


def test_no_command_but_dataset_add_loads_a_framework(home):
    program = (
        "import sys; from typer.testing import CliRunner; from node.cli import app\n"
        "for command in (['status'], ['dataset', 'list'], ['plan', 'list'], ['stop']):\n"
        "    assert 0 == CliRunner().invoke(app, [*command, sys.argv[1]]).exit_code, command\n"
        "import node.agent\n"
        "slow = {'torch', 'sklearn', 'polars'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", program, str(home.path)], check=True, timeout=DEADLINE_S)
