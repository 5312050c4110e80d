"""Find the strings of the page: all of them are in `texts/`, a file for each area."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


def t(key: str, **facts: object) -> str:
    """Return a string by its key, `area.name`, with the facts filled in.

    Raises:
        KeyError: If there is none, or a fact is missing.
    """
    return known()[key].format(**facts)


@cache
def known() -> dict[str, str]:
    """Return all strings by their keys."""
    strings: dict[str, str] = {}
    for file in (files("node.gui") / "texts").iterdir():
        area = file.name.removesuffix(".toml")
        for name, text in tomllib.loads(file.read_text(encoding="utf-8")).items():
            strings[f"{area}.{name}"] = str(text)
    return strings
