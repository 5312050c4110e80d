"""The catalogue of errors is complete, and every raiser passes the facts that its error states."""

import ast
import re
from pathlib import Path

import pytest

import common.errors
from common.errors import WarrenError, catalogue

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "node", "researcher", "deploy")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
ERRORS = list(catalogue())


def raised():
    """Yield (file, line, class name, keyword names or None) for every error that is built in the packages."""
    names = {kind.__name__ for kind in ERRORS}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                keywords = {keyword.arg for keyword in node.keywords}
                yield (
                    path.relative_to(ROOT),
                    node.lineno,
                    node.func.id,
                    None if None in keywords else keywords,
                )


def test_codes_are_unique_and_in_the_range_of_their_area():
    codes = [kind.code for kind in ERRORS]

    assert len(codes) == len(set(codes))
    for kind in ERRORS:
        area = next(base for base in kind.__mro__ if base.__base__ is WarrenError)
        siblings = {other.code[4] for other in ERRORS if issubclass(other, area)}
        assert re.fullmatch(r"WRN-[1-9]\d\d", kind.code)
        assert {kind.code[4]} == siblings, f"{kind.__name__} is outside the range of {area.__name__}"


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_says_what_happened_why_and_what_to_do(kind):
    error = kind(**dict.fromkeys(kind.fields(), "thing"))

    assert kind.cause
    assert kind.remedy
    assert error.summary
    assert not kind.text.endswith(".")
    assert kind.__name__.endswith("Error")
    assert kind.code in str(error)
    assert kind.__name__ in common.errors.__all__


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if not kind.public], ids=lambda kind: kind.__name__)
def test_facts_of_a_private_error_do_not_leave_the_node(kind):
    error = kind(**dict.fromkeys(kind.fields(), "patient-4711"))

    assert "patient-4711" not in error.public_text


def test_every_raiser_passes_exactly_the_facts_of_its_error():
    wrong = [
        f"{path}:{line} {name} takes {sorted(fields)}, not {sorted(keywords)}"
        for path, line, name, keywords in raised()
        if keywords is not None and (fields := getattr(common.errors, name).fields()) != keywords
    ]

    assert [] == wrong


def test_every_error_is_raised_somewhere():
    used = {name for _, _, name, _ in raised()}

    assert set() == {kind.__name__ for kind in ERRORS} - used
