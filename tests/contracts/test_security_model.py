"""Each claim of the security model names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security-model.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_the_security_model_names_exists(path, name):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))

    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_threat_has_an_answer_that_is_tested():
    threats = PAGE.split("## Threats and answers")[1].split("## What is not protected")[0].split("\n### ")[1:]

    assert len(threats) >= 9
    assert [] == [threat.splitlines()[0] for threat in threats if "\n- `tests/" not in threat]


def test_what_is_not_protected_is_said():
    assert PAGE.split("## What is not protected")[1].count("\n- **") >= 8
