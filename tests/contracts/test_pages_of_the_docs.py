"""What pages, compose files and scripts name is there: commands anywhere in a line, anchors, codes, metrics, settings, imports."""

import ast
import importlib
import importlib.util
import re
import textwrap
import tomllib
from pathlib import Path

import pytest
import typer

from common.errors import catalogue
from deploy.reference import command_lines, commands
from node.cli.registration import Registration
from node.policy import Policy
from researcher.experiment_file import ExperimentFile

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
DEPLOYED = sorted(
    path
    for pattern in ("docker-compose.yml", "deploy/docker/*", "deploy/systemd/*", "deploy/grafana/**/*", "deploy/prometheus/*")
    for path in ROOT.glob(pattern)
    if path.is_file()
)  # fmt: skip
OPTIONS = {
    words: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for program, app in command_lines().items()
    for words, command in commands(app, program)
}
GROUPS = {" ".join(words.split()[:count]) for words in OPTIONS for count in (1, 2)}
CODES = {kind.code for kind in catalogue()}
METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
SETTINGS = Policy.model_fields | Registration.model_fields | ExperimentFile.model_fields
OURS = ("common", "node", "researcher", "deploy")

by_name = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(page, *languages):
    """Return the fenced blocks of a page that are in one of these languages, without the indentation of lists."""
    found = re.findall(
        r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [textwrap.dedent(text) for _, language, text in found if language in languages]


def called(text):
    """Return the command lines in a text of shell, wherever in a line they stand, each as its words."""
    whole = re.sub(r"\\\n\s*#?", " ", text)
    lines = re.findall(r"(?<![\w/.-])(warren(?:-node|-researcher)? [a-z][^\n]*)", whole)
    return [re.split(r"[;|&#)`]|  ", line)[0].split() for line in lines]


def mentioned(text):
    """Return the command lines that a text names between backticks, each as its words."""
    return [line.split() for line in re.findall(r"`(warren(?:-node|-researcher)? [a-z][^`]*)`", text)]


def unknown(words):
    """Return what a command line names that is not there."""
    known = [name for name in OPTIONS if words[: len(name.split())] == name.split()]
    if not known:
        return words
    options = OPTIONS[max(known, key=len)] | {"--help"}
    return [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options]


def test_the_commands_are_typer_commands():
    assert all(isinstance(app, typer.Typer) for app in command_lines().values())
    assert {"warren demo", "warren-node dataset add", "warren-researcher run"} <= OPTIONS.keys()


@pytest.mark.parametrize("kind", list(catalogue()), ids=lambda kind: kind.__name__)
def test_a_remedy_names_only_commands_that_are_there(kind):
    assert [] == [wrong for line in mentioned(kind.remedy) if (wrong := unknown(line))]


@by_name
def test_a_command_is_there_wherever_in_a_line_it_is_called(page):
    calls = [line for block in blocks(page, "", "sh", "bash") for line in called(block)]
    lines = [*calls, *mentioned(page.read_text(encoding="utf-8"))]

    assert [] == [wrong for line in lines if (wrong := unknown(line))]


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_deployed_calls_only_commands_that_are_there(path):
    lines = called(re.sub(r'", "|\["|"\]', " ", path.read_text(encoding="utf-8")))

    assert [] == [wrong for line in lines if " ".join(line[:2]) in GROUPS and (wrong := unknown(line))]


def anchors(page):
    """Return what a link to a part of a page may name, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@by_name
def test_a_link_finds_its_file_and_its_part_of_it(page):
    for path, part in re.findall(r"\]\(([^)#:\s]*)#?([^):\s]*)\)", page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not part or part in anchors(target), part


def test_every_page_can_be_found_from_the_first():
    found, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in found:
            found.add(page)
            links = re.findall(r"\]\(([^)#:\s]+\.md)", page.read_text(encoding="utf-8"))
            ahead += [(page.parent / link).resolve() for link in links]

    assert set() == set(PAGES) - found


@pytest.mark.parametrize("page", [*PAGES, *DEPLOYED], ids=lambda path: str(path.relative_to(ROOT)))
def test_codes_and_metrics_that_are_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    metrics = set(re.findall(r"\bwarren_[a-z_]+[a-z]\b", text)) - {"warren_node", "warren_researcher"}

    assert set() == set(re.findall(r"\bWRN-\d{3}\b", text)) - CODES
    assert [] == [name for name in metrics if re.sub(r"_(bucket|sum|count)$", "", name) not in METRICS]


@by_name
def test_settings_in_a_toml_block_are_settings(page):
    for block in blocks(page, "toml"):
        assert set() == set(tomllib.loads(block)) - SETTINGS.keys(), block


@by_name
def test_python_in_a_page_is_python_and_imports_what_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in OURS:
                module = importlib.import_module(node.module)
                missing = [one.name for one in node.names if not hasattr(module, one.name)]
                assert [] == [
                    name for name in missing if not importlib.util.find_spec(f"{node.module}.{name}")
                ]
