"""A journal or a ledger that is damaged, foreign or newer is refused by every command that needs it, and never written to."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from node.home import NodeHome
from node.journal import Journal
from researcher.home import HOME_VARIABLE, Home
from researcher.ledger import FILE, Ledger, _open
from tests.support.nodes import make_kits


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return make_kits(tmp_path_factory.mktemp("kits") / "kits", {"lab": "researcher", "north": "node"})


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def torn(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:] = bytes(len(content) - 100)
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE patients (name TEXT)")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


HARM = [(garbage, "WRN-801"), (torn, "WRN-801"), (foreign, "WRN-801"), (newer, "WRN-802")]


def refusal(script: str, *arguments: object, home: Path) -> dict[str, str]:
    """Run a command that must fail, and return the error that it tells."""
    command = f"from {script} import app; app()"
    ended = subprocess.run(
        [sys.executable, "-c", command, *map(str, arguments), "--json"],
        env={**os.environ, HOME_VARIABLE: str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 != ended.returncode
    return json.loads(ended.stdout)["error"]


@pytest.mark.parametrize(("harm", "code"), HARM, ids=[harm.__name__ for harm, _ in HARM])
def test_an_agent_does_not_start_on_a_journal_that_is_not_its_own(kits, tmp_path, harm, code):
    home = NodeHome.create(tmp_path / "north", kits["north"].path)
    Journal(home.journal_path).close()
    harm(home.journal_path)
    before = home.journal_path.read_bytes()

    error = refusal("node.cli", "start", home.path, home=home.path)

    assert code == error["code"]
    assert str(home.journal_path) in error["text"]
    assert error["remedy"]
    assert before == home.journal_path.read_bytes()


@pytest.mark.parametrize(
    ("command", "harm", "code"),
    [
        *(("status", harm, code) for harm, code in HARM),
        ("replay", torn, "WRN-801"),
        ("resume", torn, "WRN-801"),
        ("export", foreign, "WRN-801"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_command_goes_on_with_a_ledger_that_is_not_its_own(kits, tmp_path, harm, code, command):
    home = Home.init(tmp_path / "lab", kits["lab"].path)
    folder = home.experiments / "trial"
    folder.mkdir(parents=True)
    ledger = folder / FILE
    Ledger(_open(folder)).close()
    harm(ledger)
    before = ledger.read_bytes()
    options = {"replay": ["--round", "1"], "export": [tmp_path / "model"]}.get(command, [])

    error = refusal("researcher.cli", command, folder, *options, home=home.path)

    assert code == error["code"]
    assert str(ledger) in error["text"]
    assert error["remedy"]
    assert before == ledger.read_bytes()
