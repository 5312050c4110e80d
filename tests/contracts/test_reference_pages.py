"""Pages that follow from the code are current, and what they list is complete."""

import ast
import re
from pathlib import Path

import pytest

from common.settings import Timeouts
from common.training_args import TrainingArgs
from deploy.reference import attribute_docs, reference_pages, write_reference

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
TREES = {
    path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
    for package in ("common", "node", "researcher", "deploy")
    for path in sorted((ROOT / package).rglob("*.py"))
}
NOT_WAITS = {
    "_ABANDONED_S": "how long an abandoned transfer is kept",
    "_SWEEP_S": "how often abandoned transfers are looked for",
    "_CLOCKS_DIFFER_S": "how far clocks may be apart",
    "_CPU_GRACE_S": "processor time, not a wait",
    "_DAY_S": "a unit",
    "_LAST_WORDS_S": "the output of a dead worker, on which nothing depends",
    "_FORGET_AFTER_S": "how long the journal keeps ids",
    "_GATHER_S": "answers that come together are committed together",
    "_LOCK_S": "Timeouts.lock_s",
    "_REDRAW_S": "how often a screen is drawn",
    "_REMIND_S": "how often a log line is repeated",
    "_STOP_S": "Timeouts.stop_s",
    "_SYNC_S": "steps that come together are brought to disk together",
    "_TEMPORARY_S": "how long an abandoned transfer is kept",
    "WAIT_S": "how often a page that waits says how far it is",
    "_NOTE_EVERY_S": "how exactly the last use of a session is known",
    "_STEP_S": "how long a code of a second factor counts, by its standard",
    "AWAY_S": "when a browser looks for the page again",
    "BREATH_S": "how often a silent stream says that it is there",
    "BURST_S": "changes that come together are told together",
    "FIRST_WAIT_S": "what a wrong password costs",
    "FORGET_S": "how long wrong passwords are remembered",
    "HALF_LIFE_S": "how long a login may take",
    "IDLE_S": "how long an unused login counts",
    "LIFE_S": "how long a login or a link counts",
    "LONGEST_WAIT_S": "what wrong passwords cost at most",
    "LOOK_S": "how much work may be spent on a drawing",
    "REPORT_EVERY_S": "how often losses are told",
    "STALE_AFTER_S": "how long a request may be under way",
    "TIMEOUT_S": "Timeouts.worker_start_s",
}
"""Constants in seconds that limit no wait, or take their value from the one model."""


@pytest.mark.parametrize("name", sorted(reference_pages()))
def test_a_generated_page_is_current(name):
    assert reference_pages()[name] == (REFERENCE / name).read_text(encoding="utf-8"), "run `make docs`"


def test_every_file_of_the_reference_is_generated_or_an_older_schema():
    found = {path.name for path in REFERENCE.iterdir()} - reference_pages().keys()

    assert [] == [name for name in found if not re.fullmatch(r"messages-\d+\.\d+\.schema\.json", name)]


def test_pages_are_written_where_told(tmp_path):
    written = write_reference(tmp_path / "new")

    assert sorted(reference_pages()) == sorted(path.name for path in written)
    assert reference_pages()["timeouts.md"] == (tmp_path / "new" / "timeouts.md").read_text()


# Time limits


def test_there_are_at_most_ten_time_limits_each_with_unit_default_and_meaning():
    assert len(Timeouts.model_fields) <= 10
    assert Timeouts.model_fields.keys() == attribute_docs(Timeouts).keys()
    for name, value in Timeouts():
        assert name.endswith("_s")
        assert value > 0


def test_every_time_limit_is_counted_when_it_passes_and_nothing_else_is():
    counted = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "labels"
                and ast.unparse(node.func.value).rpartition(".")[2] == "TIMEOUTS"
            ):
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                counted |= {
                    leaf.value
                    for value in values
                    for leaf in ast.walk(value)
                    if isinstance(leaf, ast.Constant) and leaf.value.endswith("_s")
                }

    assert set(Timeouts.model_fields) == counted


def test_no_wait_has_a_limit_of_its_own():
    literal = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg in {"timeout", "timeout_s"}
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, int | float)
    ]
    constants = {
        node.target.id
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and re.search(r"(?<!_PER)_S$", node.target.id)
    }

    assert [] == literal
    assert set() == constants - NOT_WAITS.keys(), "take it from Timeouts, or say here why it limits no wait"


# Training arguments


def test_every_training_argument_is_explained():
    assert TrainingArgs.model_fields.keys() == attribute_docs(TrainingArgs).keys()
