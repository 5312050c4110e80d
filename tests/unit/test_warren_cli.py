"""The command `warren`, and how every command line prints and fails."""

import json

import pytest
from typer.testing import CliRunner

from common.cli import AsJson, emit, new_app, plain, reported, show_error, table
from common.errors import PartyExistsError, catalogue
from deploy.cli import app
from deploy.errors_page import error_document, errors_page


def run(*arguments, expected_exit=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert expected_exit == result.exit_code, result.output
    return result


def run_json(*arguments, expected_exit=0):
    return json.loads(run(*arguments, "--json", expected_exit=expected_exit).stdout)


@pytest.fixture
def folder(tmp_path):
    run("federation", "init", tmp_path / "heart", "--port", "0")
    return tmp_path / "heart"


def test_a_federation_is_named_after_its_folder_unless_told(tmp_path):
    assert "heart" == run_json("federation", "init", tmp_path / "heart")["name"]
    assert "lung" == run_json("federation", "init", tmp_path / "other", "--name", "lung")["name"]


def test_parties_are_added_shown_and_revoked(folder):
    kit = run_json("federation", "add-node", folder, "north")["kit"]
    run_json("federation", "add-researcher", folder, "alice")
    run_json("federation", "revoke", folder, "north")

    assert str(folder / "kits" / "north") == kit
    shown = run_json("federation", "show", folder)
    assert {"registrar": "member", "north": "revoked", "alice": "member"} == {
        party["party"]: party["state"] for party in shown["parties"]
    }
    assert shown["serial"] == 5
    assert not shown["broker_running"]


def test_a_person_sees_where_the_kit_is_and_what_comes_next(folder):
    output = run("federation", "add-node", folder, "north").stdout

    assert f"Its kit is {folder}/kits/north" in output.replace("\n", "")
    assert "warren broker start" in output


def test_a_failure_shows_code_cause_and_remedy_and_no_traceback(folder):
    run("federation", "add-node", folder, "north")
    result = run("federation", "add-node", folder, "north", expected_exit=1)

    assert "" == result.stdout
    assert "WRN-305 north is already in the federation heart" in result.stderr
    assert PartyExistsError.cause in result.stderr
    assert PartyExistsError.remedy in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failure_is_json_for_programs(folder):
    error = run_json("federation", "revoke", folder, "nobody", expected_exit=1)["error"]

    assert "WRN-306" == error["code"]
    assert {"code", "text", "cause", "remedy"} == set(error)


@pytest.mark.parametrize(
    "command", [("federation", "show"), ("federation", "announce"), ("broker", "start")], ids=" ".join
)
def test_a_folder_without_a_federation_is_named_with_the_remedy(tmp_path, command):
    error = run_json(*command, tmp_path / "nothing", expected_exit=1)["error"]

    assert "WRN-308" == error["code"]
    assert str(tmp_path / "nothing") in error["remedy"]


def test_the_files_for_somebody_elses_broker_go_to_a_new_folder_only(folder, tmp_path):
    written = run_json("broker", "definitions", folder, "--out", tmp_path / "out", "--rabbitmq", "3")
    again = run_json("broker", "definitions", folder, "--out", tmp_path / "out", expected_exit=1)

    assert 7 == len(written["files"])
    assert "WRN-307" == again["error"]["code"]
    assert "queue-mode" in (tmp_path / "out" / "definitions.json").read_text()


def test_the_catalogue_lists_every_error():
    listed = run_json("errors")["errors"]

    assert [kind.code for kind in catalogue()] == [entry["code"] for entry in listed]


def test_the_page_of_errors_names_every_error_and_leaves_no_template_open():
    page = errors_page(catalogue())

    for kind in catalogue():
        assert f"### {kind.code} {error_document(kind)['summary']}\n" in page
    assert "{" not in page


def test_brackets_in_values_are_shown_as_they_are(capsys):
    emit({}, table("name", rows=[("[bold]x",), (None,)]), as_json=False)

    shown = capsys.readouterr().out
    assert "[bold]x" in shown
    assert "-" in shown


def test_ctrl_c_ends_a_command_in_words_or_as_json():
    waiting = new_app("Waits.")

    @waiting.command()
    @reported
    def wait(*, as_json: AsJson = False) -> None:
        raise KeyboardInterrupt

    told, document = CliRunner().invoke(waiting, []), CliRunner().invoke(waiting, ["--json"])
    assert (130, "Stopped.\n") == (told.exit_code, told.stdout)
    assert (130, {"stopped": True}) == (document.exit_code, json.loads(document.stdout))


def test_other_errors_are_not_dressed_up():
    broken = new_app("Broken.")

    @broken.command()
    @reported
    def fail() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(broken, []).exception, ZeroDivisionError)


HOSTILE = "north\x1b[2J\x9b31m\u202ehtron\rsouth"
"""What another party may call itself or its data: it clears the screen, paints, turns round and writes over what stands there."""


def test_names_that_others_chose_move_no_terminal():
    error = PartyExistsError(party=HOSTILE, federation="trial")
    shown = (
        lambda: emit(
            {}, table(f"[red]{HOSTILE}", rows=[[HOSTILE], [f"two\nlines {HOSTILE}"]]), as_json=False
        ),
        lambda: emit({}, plain(f"one\n{HOSTILE}"), as_json=False),
        lambda: show_error(error),
    )
    for show in shown:
        result = CliRunner().invoke(command_that(show))

        assert not set("\x1b\x9b\u202e\r") & set(result.output)
        assert "north\\u{1b}[2J\\u{9b}31m\\u{202e}htron\\u{d}south" in result.output.replace("\n", "")


def test_a_table_keeps_the_lines_of_a_cell_and_the_brackets_of_a_heading():
    result = CliRunner().invoke(
        command_that(lambda: emit({}, table("[x]", rows=[["two\nlines"]]), as_json=False))
    )

    assert ["[x]", "two", "lines"] == result.output.split()


def command_that(show):
    app = new_app("For a test.")
    app.command()(show)
    return app
